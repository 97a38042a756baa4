// From spans of segments to live documents, and the order of occurrences over segments.
#include <algorithm>
#include <numeric>

#include "segments.hpp"

namespace gemkr {

namespace {

std::vector<u64> rows_of(Range range) {
    std::vector<u64> rows(range.size());
    std::iota(rows.begin(), rows.end(), range.lo);
    return rows;
}

}  // namespace

// What an occurrence is ordered by: the tokens before it, read backwards, then its document.
struct Segments::Key {
    std::vector<i64> tokens;  // of the document, up to the occurrence's end
    u64 doc;                  // over all positive segments, deleted ones too

    bool before(const Key& other, u64 known) const {  // known: this many tokens at the end are equal
        std::size_t a = tokens.size(), b = other.tokens.size();
        a -= std::min<std::size_t>(a, known);
        b -= std::min<std::size_t>(b, known);
        while (a && b) {
            --a;
            --b;
            if (tokens[a] != other.tokens[b]) return tokens[a] < other.tokens[b];
        }
        return a == b ? doc < other.doc : a < b;
    }
};

Segments::Key Segments::key_of(std::size_t segment, u64 row) const {
    const Segment& s = segments_[segment];
    const Occurrence at = s.index->locate_rows(&row, 1).front();
    Key key{std::vector<i64>(at.gap), s.negative ? static_cast<u64>(s.docs[at.doc]) : live_.raw(segment, at.doc)};
    s.index->kernels().extract(s.index->view(), at.doc, 0, at.gap, key.tokens.data());
    return key;
}

u64 Segments::first_not_before(std::size_t segment, Range rows, const Key& key, u64 length) const {
    while (rows.lo < rows.hi) {
        const u64 middle = rows.lo + (rows.hi - rows.lo) / 2;
        if (key_of(segment, middle).before(key, length))
            rows.lo = middle + 1;
        else
            rows.hi = middle;
    }
    return rows.lo;
}

void Segments::first_occurrences(Range* ranges, u64 wanted, u64 length) const {
    // open[j]: where the cut of segment j may still lie. The cut between occurrences is narrowed from both sides by pivots,
    // whose place among all live occurrences is a sum over segments.
    std::vector<Range> open(ranges, ranges + segments_.size());
    std::vector<u64> cut(segments_.size());
    for (;;) {
        std::size_t widest = 0;
        for (std::size_t j = 1; j < positives_; ++j)
            if (open[j].size() > open[widest].size()) widest = j;
        if (open[widest].empty()) break;
        const u64 pivot = open[widest].lo + open[widest].size() / 2;
        const Key key = key_of(widest, pivot);
        u64 more = 0, less = 0;
        for (std::size_t j = 0; j < segments_.size(); ++j) {
            cut[j] = j == widest ? pivot : first_not_before(j, open[j], key, length);
            (j < positives_ ? more : less) += cut[j] - ranges[j].lo;
        }
        const bool later = more - std::min(more, less) < wanted;
        for (std::size_t j = 0; j < segments_.size(); ++j) (later ? open[j].lo : open[j].hi) = cut[j];
        if (later) open[widest].lo = pivot + 1;
    }
    for (std::size_t j = 0; j < positives_; ++j) ranges[j].hi = open[j].lo;
}

DocumentTable Segments::documents(const i64* lo, const i64* hi, std::size_t count, std::size_t limit) const {
    DocumentTable out;
    const std::size_t width = segments_.size();
    std::vector<Range> ranges(count * width);
    resolve(lo, hi, count, ranges.data(), false);
    for (std::size_t k = 0; k < count; ++k) {
        Range* state = ranges.data() + k * width;
        const u64 wanted = static_cast<u64>(hi[k] - lo[k]);
        if (wanted && wanted < live_count(state)) first_occurrences(state, wanted, static_cast<u64>(lo[k]) & LONGEST_PATTERN);
        std::vector<std::pair<u64, u64>> counted;  // (occurrences, document)
        for (std::size_t j = 0; j < positives_; ++j) {
            const std::vector<u64> rows = rows_of(state[j]);
            std::vector<u64> docs = segments_[j].index->docs_of_rows(rows.data(), rows.size());
            std::sort(docs.begin(), docs.end());
            for (auto at = docs.begin(); at != docs.end();) {
                const auto stop = std::upper_bound(at, docs.end(), *at);
                if (!deleted(j, *at)) counted.emplace_back(static_cast<u64>(stop - at), live_.number(j, *at));
                at = stop;
            }
        }
        std::sort(counted.begin(), counted.end(),
                  [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
        if (counted.size() > limit) counted.resize(limit);
        for (const auto& [times, doc] : counted) {
            out.docs.push_back(doc);
            out.counts.push_back(times);
        }
        out.offsets.push_back(out.docs.size());
    }
    return out;
}

u64 Segments::only_document(i64 lo, i64 hi) const {
    std::vector<Range> ranges(segments_.size());
    resolve(&lo, &hi, 1, ranges.data(), true);
    u64 only = none();
    for (std::size_t j = 0; j < positives_; ++j) {
        u64 step = 8;
        for (u64 row = ranges[j].lo; row < ranges[j].hi; row += step, step *= 2) {
            const std::vector<u64> rows = rows_of({row, std::min(ranges[j].hi, row + step)});
            for (const u64 doc : segments_[j].index->docs_of_rows(rows.data(), rows.size())) {
                if (deleted(j, doc)) continue;
                const u64 number = live_.number(j, doc);
                if (only != none() && only != number) return none();
                only = number;
            }
        }
    }
    return only;
}

std::vector<Occurrence> Segments::occurrences(i64 lo, i64 hi) const {
    std::vector<Range> ranges(segments_.size());
    resolve(&lo, &hi, 1, ranges.data(), false);
    const u64 wanted = static_cast<u64>(hi - lo);
    if (wanted && wanted < live_count(ranges.data()))
        first_occurrences(ranges.data(), wanted, static_cast<u64>(lo) & LONGEST_PATTERN);
    std::vector<Occurrence> out;
    for (std::size_t j = 0; j < positives_; ++j) {
        const std::vector<u64> rows = rows_of(ranges[j]);
        for (const Occurrence& o : segments_[j].index->locate_rows(rows.data(), rows.size()))
            if (!deleted(j, o.doc)) out.push_back({live_.number(j, o.doc), o.gap});
    }
    std::sort(out.begin(), out.end(),
              [](const Occurrence& a, const Occurrence& b) { return a.doc != b.doc ? a.doc < b.doc : a.gap < b.gap; });
    return out;
}

}  // namespace gemkr
