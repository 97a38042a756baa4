// What may follow ranges of rows: tokens, their counts and masks. Included after kernels_isa.hpp.
#pragma once

#include "kernels_isa.hpp"

namespace gemkr::GEMKR_ISA {

namespace {

template <class T>
T* room_for(std::vector<T>& frontier, std::size_t count) {
    if (frontier.size() < count) frontier.resize(count + count / 2);
    return frontier.data();
}

// Walks all jobs down the wavelet matrix level by level. sink(job id, symbol, count) in no useful order.
// Nodes are written to both frontiers and kept by moving the end, because which one is right is not predictable.
template <class Sink>
void walk_jobs(const View& view, const Job* jobs, std::size_t count, Scratch& scratch, Sink&& sink) {
    Scratch::Wide* wide = room_for(scratch.wide, count + 1);
    Scratch::Single* single = room_for(scratch.single, count + 1);
    std::size_t wides = 0, singles = 0;
    for (std::size_t k = 0; k < count; ++k) {
        prefetch_place(view.levels[0], jobs[k].lo);
        prefetch_place(view.levels[0], jobs[k].hi);
        const bool one = jobs[k].hi - jobs[k].lo == 1;
        single[singles] = {jobs[k].lo, jobs[k].id, 0};
        wide[wides] = {jobs[k].lo, jobs[k].hi, jobs[k].id, 0};
        singles += one;
        wides += !one;
    }
    for (unsigned l = 0; l < view.level_count && wides + singles; ++l) {
        const Level& level = view.levels[l];
        const Level& below = view.levels[l + 1 < view.level_count ? l + 1 : l];
        Scratch::Wide* next_wide = room_for(scratch.next_wide, 4 * wides + 1);
        Scratch::Single* next_single = room_for(scratch.next_single, 4 * wides + singles + 1);
        std::size_t next_wides = 0, next_singles = 0;
        for (std::size_t k = 0; k < wides; ++k) {
            const Scratch::Wide node = wide[k];
            u64 lo[4], hi[4];
            step_all(place_of(level, node.lo), lo);
            step_all(place_of(level, node.hi), hi);
            for (unsigned digit = 0; digit < 4; ++digit) {
                const u64 child = digit * level.nodes + node.node;
                if (child >= level.leaf_begin) {
                    if (lo[digit] < hi[digit])
                        sink(node.job, level.leaves[child - level.leaf_begin], hi[digit] - lo[digit]);
                    continue;
                }
                const bool some = lo[digit] < hi[digit] && hi[digit] <= level.next_length;
                const bool one = hi[digit] - lo[digit] == 1;
                next_wide[next_wides] = {lo[digit], hi[digit], node.job, static_cast<u32>(child)};
                next_single[next_singles] = {lo[digit], node.job, static_cast<u32>(child)};
                next_wides += some && !one;
                next_singles += some && one;
                if (some) {
                    prefetch_place(below, lo[digit]);
                    prefetch_place(below, hi[digit]);
                }
            }
        }
        for (std::size_t k = 0; k < singles; ++k) {
            Descent d{single[k].at, single[k].node};
            const u32 symbol = descend(level, d);
            if (symbol != NO_TOKEN) {
                sink(single[k].job, symbol, u64{1});
                continue;
            }
            prefetch_place(below, d.at);
            next_single[next_singles++] = {d.at, single[k].job, static_cast<u32>(d.node)};
        }
        scratch.wide.swap(scratch.next_wide);
        scratch.single.swap(scratch.next_single);
        wide = next_wide;
        single = next_single;
        wides = next_wides;
        singles = next_singles;
    }
}

u32 token_of(const View& view, u32 symbol) { return symbol < view.sigma ? view.tokens[symbol] : NO_TOKEN; }

// Calls each(token) for the tokens of a list, ascending.
template <class Each>
void each_token(const View& view, const ListView& list, Each&& each) {
    if (list.bitmap) {
        const u64 words = ceil_div(view.vocab_size, 32);
        u64 left = list.size;
        for (u64 w = 0; w < words; ++w) {
            for (u32 bits = load_unaligned<u32>(list.low + 4 * w); bits; bits &= bits - 1) {
                if (left == 0) return;
                --left;
                each(static_cast<u32>(w * 32 + static_cast<u64>(__builtin_ctz(bits))));
            }
        }
        return;
    }
    u64 index = 0, bit = 0, at = 0;
    for (u64 byte = 0; byte < list.high_bytes; byte += 8, at += 64) {
        u64 bits = load_unaligned<u64>(list.high + byte);
        if (list.high_bytes - byte < 8) bits &= low_bits(8 * static_cast<unsigned>(list.high_bytes - byte));
        for (; bits; bits &= bits - 1) {
            if (index == list.size) return;
            const u64 high = at + static_cast<u64>(__builtin_ctzll(bits)) - index;
            each(static_cast<u32>(high << list.low_width | read_bits(list.low, bit, list.low_width)));
            bit += list.low_width;
            ++index;
        }
    }
}

void fill_from_list(const View& view, const ListView& list, u32* row, std::size_t words) {
    if (list.bitmap) {
        const std::size_t whole = view.vocab_size / 32;
        for (std::size_t w = 0; w < whole; ++w) row[w] |= load_unaligned<u32>(list.low + 4 * w);
        if (whole < words)
            row[whole] |= load_unaligned<u32>(list.low + 4 * whole) & static_cast<u32>(low_bits(view.vocab_size % 32));
        return;
    }
    each_token(view, list, [&](u32 token) {
        if (token < view.vocab_size) row[token >> 5] |= u32{1} << (token & 31);
    });
}

void fill_rows(const View& view, const Job* jobs, std::size_t count, u32* out, std::size_t words, Scratch& scratch) {
    scratch.jobs.clear();
    for (std::size_t k = 0; k < count; ++k) {
        ListView list;
        if (find_list(view, jobs[k].lo, jobs[k].hi, list))
            fill_from_list(view, list, out + jobs[k].id * words, words);
        else
            scratch.jobs.push_back(jobs[k]);
    }
    walk_jobs(view, scratch.jobs.data(), scratch.jobs.size(), scratch, [&](u32 job, u32 symbol, u64) {
        const u32 token = token_of(view, symbol);
        if (token < view.vocab_size) out[job * words + (token >> 5)] |= u32{1} << (token & 31);
    });
}

void walk(const View& view, const Job* jobs, std::size_t count, Scratch& scratch) {
    const std::size_t first = scratch.found.size();
    walk_jobs(view, jobs, count, scratch, [&](u32 job, u32 symbol, u64 number) {
        const u32 token = token_of(view, symbol);
        if (token < view.vocab_size) scratch.found.push_back({u64{job} << 32 | token, number});
    });
    std::sort(scratch.found.begin() + static_cast<std::ptrdiff_t>(first), scratch.found.end(),
              [](const Successor& a, const Successor& b) { return a.key < b.key; });
}

void decode(const View& view, const ListView& list, i64* tokens, i64* counts) {
    i64* to = tokens;
    u32 most = 0;
    each_token(view, list, [&](u32 token) {
        *to++ = token;
        most = std::max(most, token);
    });
    if (static_cast<u64>(to - tokens) != list.size || (list.size && most >= view.vocab_size))
        throw CorruptError("section 'context_lists' holds a list of tokens that are not there; build the index again");
    const u8* extra = list.extra;
    for (u64 k = 0; k < list.size; ++k) {
        u64 count = list.nibbles[k >> 1] >> 4 * (k & 1) & 15;
        if (count == 15) count += read_varint(extra, list.end);
        counts[k] = static_cast<i64>(count);
    }
}

}  // namespace

}  // namespace gemkr::GEMKR_ISA
