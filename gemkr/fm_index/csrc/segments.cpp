#include "segments.hpp"

#include <algorithm>
#include <string>

namespace gemkr {

namespace {

std::string span_text(i64 lo, i64 hi) { return "span [" + std::to_string(lo) + ", " + std::to_string(hi) + ")"; }

[[noreturn]] void refuse(i64 lo, i64 hi) {
    throw QueryError(span_text(lo, hi) + " does not fit these segments; use spans of this index only");
}

}  // namespace

Segments::Segments(std::vector<Segment> segments, u64 vocab_size)
    : segments_(std::move(segments)), first_row_(1, 0), vocab_size_(vocab_size), cache_(segments_.size()),
      pool_(std::make_shared<Pool>(0)) {
    u64 deleted_docs = 0, negative_docs = 0, negative_rows = 0;
    for (const Segment& s : segments_) {
        const View& view = s.index->view();
        if (view.vocab_size != vocab_size)
            throw QueryError("a segment has a vocabulary of " + std::to_string(view.vocab_size) + " tokens, others of " +
                             std::to_string(vocab_size) + "; all must be built with one tokenizer");
        const u64 below = s.negative ? live_.size_with_deleted() : view.n_docs;
        for (std::size_t k = 0; k < s.doc_count; ++k)
            if (s.docs[k] < 0 || static_cast<u64>(s.docs[k]) >= below || (k && s.docs[k] <= s.docs[k - 1]))
                throw QueryError("the deleted documents of a segment must be ascending numbers of its documents");
        if (s.negative) {
            if (s.doc_count != view.n_docs) throw QueryError("a negative segment needs the number of each of its documents");
            negative_docs += view.n_docs;
            negative_rows += view.n_rows;
            continue;
        }
        if (negative_docs) throw QueryError("positive segments come before negative ones");
        ++positives_;
        first_row_.push_back(first_row_.back() + view.n_rows);
        live_.add(view.n_docs, s.docs, s.doc_count);
        deleted_docs += s.doc_count;
    }
    if (deleted_docs != negative_docs || negative_rows > first_row_.back())
        throw QueryError(std::to_string(deleted_docs) + " documents are deleted but the negative segments hold " +
                         std::to_string(negative_docs) + "; they do not belong together");
    rows_ = first_row_.back() - negative_rows;
}

u64 Segments::live_count(const Range* ranges) const {
    u64 more = 0, less = 0;
    for (std::size_t j = 0; j < segments_.size(); ++j) (j < positives_ ? more : less) += ranges[j].size();
    if (less > more) throw CorruptError("a negative segment holds more of a pattern than the positive ones; verify the collection");
    return more - less;
}

i64 Segments::code_of(const Range* ranges, u64 length) const {
    for (std::size_t j = 0; j < positives_; ++j)
        if (!ranges[j].empty()) return static_cast<i64>((first_row_[j] + ranges[j].lo) << LENGTH_BITS | length);
    return 0;
}

std::vector<i64> Segments::pattern(i64 code) const {
    const u64 row = static_cast<u64>(code) >> LENGTH_BITS, length = static_cast<u64>(code) & LONGEST_PATTERN;
    if (code < 0 || row >= first_row_.back() || (length == 0 && code != 0)) refuse(code, code);
    if (length == 0) return {};
    const std::size_t j =
        static_cast<std::size_t>(std::upper_bound(first_row_.begin(), first_row_.end(), row) - first_row_.begin()) - 1;
    const Index& index = *segments_[j].index;
    const u64 inside = row - first_row_[j];
    const Occurrence at = index.locate_rows(&inside, 1).front();
    if (at.gap < length) refuse(code, code);
    std::vector<i64> tokens(length);
    index.kernels().extract(index.view(), at.doc, at.gap - length, at.gap, tokens.data());
    return tokens;
}

void Segments::search_again(i64 code, Range* out) const {
    const std::vector<i64> tokens = pattern(code);
    for (std::size_t k = 0; k < segments_.size(); ++k) {
        const Index& segment = *segments_[k].index;
        u64 lo = 0, hi = segment.view().n_rows;
        for (const i64 token : tokens)
            if (!segment.kernels().extend(segment.view(), lo, hi, static_cast<u64>(token))) {
                lo = hi = 0;
                break;
            }
        out[k] = {lo, hi};
    }
    if (code_of(out, tokens.size()) != code) refuse(code, code);
}

void Segments::resolve(const i64* lo, const i64* hi, std::size_t count, Range* out, bool whole_only) const {
    const std::size_t width = segments_.size();
    std::vector<std::size_t> missing;
    cache_.find(lo, count, out, missing);
    for (const std::size_t k : missing) {
        Range* ranges = out + k * width;
        if (lo[k] < 0 || lo[k] > hi[k]) refuse(lo[k], hi[k]);
        if (lo[k] == hi[k])
            std::fill_n(ranges, width, Range{});
        else if (lo[k] == 0)
            for (std::size_t j = 0; j < width; ++j) ranges[j] = {0, segments_[j].index->view().n_rows};
        else {
            search_again(lo[k], ranges);
            cache_.keep(lo + k, 1, ranges);
        }
    }
    for (std::size_t k = 0; k < count; ++k) {
        if (lo[k] >= hi[k]) {
            if (lo[k] > hi[k]) refuse(lo[k], hi[k]);
            std::fill_n(out + k * width, width, Range{});
            continue;
        }
        const u64 live = live_count(out + k * width), given = static_cast<u64>(hi[k] - lo[k]);
        if (given > live) refuse(lo[k], hi[k]);
        if (whole_only && given < live)
            throw QueryError(span_text(lo[k], hi[k]) + " is a part of a pattern's " + std::to_string(live) +
                             " occurrences, of which segments tell the documents only; give the whole span");
    }
}

void Segments::resolve(const i64* lo, const i64* hi, std::size_t count, Range* out) const { resolve(lo, hi, count, out, true); }

void Segments::extend_many(const i64* lo, const i64* hi, const i64* tokens, i64* out_lo, i64* out_hi, std::size_t count) const {
    constexpr std::size_t SHARE = 128;
    const std::size_t width = segments_.size();
    std::vector<Range> ranges(count * width);
    resolve(lo, hi, count, ranges.data(), true);
    for (std::size_t k = 0; k < count; ++k)
        if (lo[k] < hi[k] && (static_cast<u64>(lo[k]) & LONGEST_PATTERN) == LONGEST_PATTERN)
            throw QueryError("a pattern of segments has at most " + std::to_string(LONGEST_PATTERN) + " tokens");
    pool()->run(ceil_div(count, SHARE), [&](std::size_t piece) {
        const std::size_t from = piece * SHARE, share = std::min(SHARE, count - from);
        i64 a[SHARE], b[SHARE], to_a[SHARE], to_b[SHARE];
        for (std::size_t j = 0; j < width; ++j) {
            const Index& index = *segments_[j].index;
            for (std::size_t k = 0; k < share; ++k) {
                a[k] = static_cast<i64>(ranges[(from + k) * width + j].lo);
                b[k] = static_cast<i64>(ranges[(from + k) * width + j].hi);
            }
            index.kernels().extend_many(index.view(), a, b, tokens + from, to_a, to_b, share);
            for (std::size_t k = 0; k < share; ++k)
                ranges[(from + k) * width + j] = {static_cast<u64>(to_a[k]), static_cast<u64>(to_b[k])};
        }
    });
    std::vector<i64> codes(count, 0);
    for (std::size_t k = 0; k < count; ++k) {
        const u64 live = live_count(ranges.data() + k * width);
        if (live) codes[k] = code_of(ranges.data() + k * width, (static_cast<u64>(lo[k]) & LONGEST_PATTERN) + 1);
    }
    cache_.keep(codes.data(), count, ranges.data());
    for (std::size_t k = 0; k < count; ++k) {  // last, because the results may lie where the arguments did
        out_lo[k] = codes[k];
        out_hi[k] = codes[k] ? codes[k] + static_cast<i64>(live_count(ranges.data() + k * width)) : 0;
    }
}

u64 Segments::count_ends(i64 lo, i64 hi) const {
    std::vector<Range> ranges(segments_.size());
    resolve(&lo, &hi, 1, ranges.data(), true);
    u64 more = 0, less = 0;
    for (std::size_t j = 0; j < segments_.size(); ++j) {
        const Index& index = *segments_[j].index;
        (j < positives_ ? more : less) += index.kernels().count_ends(index.view(), ranges[j].lo, ranges[j].hi);
    }
    return more - std::min(more, less);
}

}  // namespace gemkr
