#include "documents.hpp"

#include <algorithm>
#include <numeric>

namespace gemkr {

namespace {

constexpr std::size_t GROUP_ROWS = std::size_t{1} << 20;  // rows looked up together: narrow spans share a walk

void append_rows(std::vector<u64>& rows, i64 lo, i64 hi) {
    const std::size_t first = rows.size();
    rows.resize(first + static_cast<std::size_t>(hi - lo));
    std::iota(rows.begin() + static_cast<std::ptrdiff_t>(first), rows.end(), static_cast<u64>(lo));
}

void append_counts(u64* begin, u64* end, std::size_t limit, DocumentTable& out) {
    std::sort(begin, end);
    std::vector<std::pair<u64, u64>> counted;
    for (u64* at = begin; at != end;) {
        u64* stop = std::upper_bound(at, end, *at);
        counted.emplace_back(static_cast<u64>(stop - at), *at);
        at = stop;
    }
    auto more = [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; };
    std::sort(counted.begin(), counted.end(), more);
    if (counted.size() > limit) counted.resize(limit);
    for (const auto& [times, doc] : counted) {
        out.docs.push_back(doc);
        out.counts.push_back(times);
    }
    out.offsets.push_back(out.docs.size());
}

}  // namespace

DocumentTable count_documents(const Index& index, const i64* lo, const i64* hi, std::size_t count, std::size_t limit) {
    DocumentTable out;
    std::vector<u64> rows;
    for (std::size_t first = 0; first < count;) {
        rows.clear();
        std::size_t stop = first;
        do {
            append_rows(rows, lo[stop], hi[stop]);
            ++stop;
        } while (stop < count && rows.size() + static_cast<std::size_t>(hi[stop] - lo[stop]) <= GROUP_ROWS);
        std::vector<u64> docs = index.docs_of_rows(rows.data(), rows.size());
        u64* at = docs.data();
        for (; first < stop; ++first) {
            append_counts(at, at + (hi[first] - lo[first]), limit, out);
            at += hi[first] - lo[first];
        }
    }
    return out;
}

std::vector<Occurrence> sorted_occurrences(const Index& index, i64 lo, i64 hi) {
    std::vector<u64> rows;
    append_rows(rows, lo, hi);
    std::vector<Occurrence> found = index.locate_rows(rows.data(), rows.size());
    std::sort(found.begin(), found.end(), [](const Occurrence& a, const Occurrence& b) {
        return a.doc != b.doc ? a.doc < b.doc : a.gap < b.gap;
    });
    return found;
}

}  // namespace gemkr
