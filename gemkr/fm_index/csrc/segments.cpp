#include "segments.hpp"

#include <algorithm>
#include <string>

#include "contexts.hpp"
#include "twins.hpp"

namespace gemkr {

namespace {

constexpr std::size_t PIECE = 32;  // states per piece of a threaded batch

std::string span_text(i64 lo, i64 hi) { return "span [" + std::to_string(lo) + ", " + std::to_string(hi) + ")"; }

[[noreturn]] void refuse(i64 lo, i64 hi) {
    throw QueryError(span_text(lo, hi) + " does not fit these segments; use spans of this index only");
}

// Successors of a few states in one segment, in any order: those of state k stand at begin[k] .. end[k].
struct Found {
    std::vector<i64> tokens, counts;
    std::size_t begin[PIECE], end[PIECE];
};

// Counts by token that are added up, and a bit for each token that was touched.
struct Sums {
    std::vector<i64> counts;
    std::vector<u64> touched;
    std::size_t low = ~std::size_t{0}, high = 0;

    void reserve(u64 vocab) {
        if (counts.size() >= vocab) return;
        counts.resize(vocab, 0);
        touched.resize(ceil_div(vocab, 64), 0);
    }
    void add(const i64* tokens, const i64* values, std::size_t count, i64 sign) {
        if (!count) return;
        low = std::min<std::size_t>(low, static_cast<std::size_t>(tokens[0]) / 64);
        high = std::max<std::size_t>(high, static_cast<std::size_t>(tokens[count - 1]) / 64 + 1);
        for (std::size_t k = 0; k < count; ++k) {
            const auto token = static_cast<u64>(tokens[k]);
            counts[token] += sign * values[k];
            touched[token / 64] |= u64{1} << token % 64;
        }
    }
    // Writes the tokens with a sum above 0, ascending, and their sums; starts anew. The number written, or ~0 where a sum is below 0.
    std::size_t take(i64* tokens, i64* values) {
        std::size_t size = 0;
        bool below = false;
        for (std::size_t w = low; w < high; ++w) {
            for (u64 bits = touched[w]; bits; bits &= bits - 1) {
                const u64 token = w * 64 + static_cast<u64>(__builtin_ctzll(bits));
                const i64 sum = counts[token];
                counts[token] = 0;
                tokens[size] = static_cast<i64>(token);
                values[size] = sum;
                size += sum > 0;
                below |= sum < 0;
            }
            touched[w] = 0;
        }
        low = ~std::size_t{0};
        high = 0;
        return below ? ~std::size_t{0} : size;
    }
};

void find_successors(const Index& index, const Job* jobs, std::size_t count, Found& found, Scratch& scratch) {
    found.tokens.clear();
    found.counts.clear();
    std::fill_n(found.begin, PIECE, 0);
    std::fill_n(found.end, PIECE, 0);
    Job walked[PIECE];
    std::size_t busy = 0;
    for (std::size_t k = 0; k < count; ++k) {
        ListView list;
        if (!find_list(index.view(), jobs[k].lo, jobs[k].hi, list)) {
            walked[busy++] = jobs[k];
            continue;
        }
        const std::size_t at = found.tokens.size();
        found.tokens.resize(at + list.size);
        found.counts.resize(at + list.size);
        index.kernels().decode(index.view(), list, found.tokens.data() + at, found.counts.data() + at);
        found.begin[jobs[k].id] = at;
        found.end[jobs[k].id] = at + list.size;
    }
    scratch.found.clear();
    index.kernels().walk(index.view(), walked, busy, scratch);
    for (const Successor& s : scratch.found) {
        const u32 id = s.job();
        if (found.begin[id] == found.end[id]) found.begin[id] = found.tokens.size();
        found.tokens.push_back(s.token());
        found.counts.push_back(static_cast<i64>(s.count));
        found.end[id] = found.tokens.size();
    }
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

template <class Sink>
void Segments::merge_successors(const Range* const* states, std::size_t count, Sink&& sink) const {
    thread_local std::vector<Found> found;
    thread_local Scratch scratch;
    thread_local Sums sums;
    if (found.size() < segments_.size()) found.resize(segments_.size());
    sums.reserve(vocab_size_);
    for (std::size_t j = 0; j < segments_.size(); ++j) {
        Job jobs[PIECE];
        std::size_t busy = 0;
        for (std::size_t k = 0; k < count; ++k)
            if (!states[k][j].empty()) jobs[busy++] = {states[k][j].lo, states[k][j].hi, static_cast<u32>(k)};
        find_successors(*segments_[j].index, jobs, busy, found[j], scratch);
    }
    thread_local std::vector<i64> tokens, counts;
    for (std::size_t k = 0; k < count; ++k) {
        std::size_t total = 0, holders = 0, holder = 0;
        for (std::size_t j = 0; j < segments_.size(); ++j) {
            const std::size_t size = found[j].end[k] - found[j].begin[k];
            total += size;
            if (size) holder = j;
            holders += size > 0;
        }
        if (holders == 1 && holder < positives_) {
            const Found& f = found[holder];
            sink(k, f.tokens.data() + f.begin[k], f.counts.data() + f.begin[k], total);
            continue;
        }
        for (std::size_t j = 0; j < segments_.size(); ++j) {
            const Found& f = found[j];
            sums.add(f.tokens.data() + f.begin[k], f.counts.data() + f.begin[k], f.end[k] - f.begin[k], j < positives_ ? 1 : -1);
        }
        if (tokens.size() <= total) {
            tokens.resize(2 * total + 1);
            counts.resize(2 * total + 1);
        }
        const std::size_t size = sums.take(tokens.data(), counts.data());
        if (size == ~std::size_t{0})
            throw CorruptError("a negative segment holds more of a pattern than the positive ones; verify the collection");
        sink(k, tokens.data(), counts.data(), size);
    }
}

void Segments::fill_mask(const i64* lo, const i64* hi, std::size_t count, u32* out) const {
    const std::size_t words = ceil_div(vocab_size_, 32), width = segments_.size();
    if (words == 0 || count == 0) return;
    std::vector<Range> ranges(count * width);
    resolve(lo, hi, count, ranges.data(), true);
    const Twins twins(lo, hi, count);
    pool()->run(ceil_div(twins.first.size(), PIECE), [&](std::size_t piece) {
        const std::size_t from = piece * PIECE, to = std::min(twins.first.size(), from + PIECE);
        u32 plain[PIECE], mixed[PIECE];  // rows of states without and with deleted occurrences
        const Range* mixed_states[PIECE];
        std::size_t plains = 0, mixes = 0;
        for (std::size_t k = from; k < to; ++k) {
            const u32 row = twins.first[k];
            std::memset(out + row * words, 0, words * 4);
            const Range* state = ranges.data() + row * width;
            if (std::all_of(state + positives_, state + width, [](const Range& r) { return r.empty(); })) {
                plain[plains++] = row;
            } else {
                mixed_states[mixes] = state;
                mixed[mixes++] = row;
            }
        }
        thread_local Scratch scratch;
        for (std::size_t j = 0; j < positives_; ++j) {
            Job jobs[PIECE];
            std::size_t busy = 0;
            for (std::size_t k = 0; k < plains; ++k) {
                const Range range = ranges[plain[k] * width + j];
                if (!range.empty()) jobs[busy++] = {range.lo, range.hi, plain[k]};
            }
            const Index& index = *segments_[j].index;
            index.kernels().fill_rows(index.view(), jobs, busy, out, words, scratch);
        }
        merge_successors(mixed_states, mixes, [&](std::size_t k, const i64* tokens, const i64*, std::size_t size) {
            u32* row = out + mixed[k] * words;
            for (std::size_t t = 0; t < size; ++t) row[tokens[t] >> 5] |= u32{1} << (tokens[t] & 31);
        });
        for (std::size_t k = from; k < to; ++k)
            for (u32 row = twins.next[twins.first[k]]; row != Twins::END; row = twins.next[row])
                std::memcpy(out + row * words, out + twins.first[k] * words, words * 4);
    });
}

void Segments::successors_many(const i64* lo, const i64* hi, std::size_t count, SuccessorTable& out) const {
    const std::size_t width = segments_.size();
    std::vector<Range> ranges(count * width);
    resolve(lo, hi, count, ranges.data(), true);
    const Twins twins(lo, hi, count);
    const std::size_t distinct = twins.first.size(), pieces = ceil_div(distinct, PIECE);
    struct Merged {
        std::vector<i64> tokens, counts;
    };
    std::vector<Merged> merged(pieces);
    std::vector<std::size_t> begin(distinct), size(distinct);
    const std::shared_ptr<Pool> pool = this->pool();
    pool->run(pieces, [&](std::size_t piece) {
        const std::size_t from = piece * PIECE, share = std::min(PIECE, distinct - from);
        const Range* states[PIECE];
        for (std::size_t k = 0; k < share; ++k) states[k] = ranges.data() + twins.first[from + k] * width;
        Merged& m = merged[piece];
        merge_successors(states, share, [&](std::size_t k, const i64* tokens, const i64* counts, std::size_t found) {
            begin[from + k] = m.tokens.size();
            size[from + k] = found;
            m.tokens.insert(m.tokens.end(), tokens, tokens + found);
            m.counts.insert(m.counts.end(), counts, counts + found);
        });
    });
    out.offsets.assign(count + 1, 0);
    for (std::size_t d = 0; d < distinct; ++d)
        for (u32 row = twins.first[d]; row != Twins::END; row = twins.next[row]) out.offsets[row + 1] = static_cast<i64>(size[d]);
    for (std::size_t k = 0; k < count; ++k) out.offsets[k + 1] += out.offsets[k];
    out.allocate(static_cast<std::size_t>(out.offsets[count]));
    pool->run(pieces, [&](std::size_t piece) {
        const Merged& m = merged[piece];
        for (std::size_t d = piece * PIECE; d < std::min(distinct, (piece + 1) * PIECE); ++d)
            for (u32 row = twins.first[d]; row != Twins::END; row = twins.next[row]) {
                std::copy_n(m.tokens.data() + begin[d], size[d], out.tokens + out.offsets[row]);
                std::copy_n(m.counts.data() + begin[d], size[d], out.counts + out.offsets[row]);
            }
    });
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
