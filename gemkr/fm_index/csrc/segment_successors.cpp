// What may follow in segments: their successor sets, united and subtracted with counts.
#include <algorithm>
#include <cstring>

#include "contexts.hpp"
#include "segments.hpp"
#include "twins.hpp"

namespace gemkr {

namespace {

constexpr std::size_t PIECE = 32;  // states per piece of a threaded batch

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

}  // namespace gemkr
