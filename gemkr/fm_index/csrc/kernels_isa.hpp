// The kernels themselves; included by kernels_base.cpp and kernels_bmi.cpp, which name GEMKR_ISA.
#pragma once

#include "contexts.hpp"
#include "rank.hpp"

namespace gemkr::GEMKR_ISA {

namespace {

constexpr std::size_t IN_FLIGHT = 32;  // states that walk in lock step

bool extend(const View& view, u64& lo, u64& hi, u64 token) {
    const u32 symbol = symbol_of(view, token);
    return usable(view, symbol) && lo < hi && extend_symbol(view, lo, hi, symbol);
}

u64 count_ends(const View& view, u64 lo, u64 hi) {
    return lo < hi && extend_symbol(view, lo, hi, 0) ? hi - lo : 0;
}

void extend_many(const View& view, const i64* lo, const i64* hi, const i64* tokens, i64* out_lo, i64* out_hi,
                 std::size_t count) {
    struct State {
        u64 lo, hi, code;
        i64 delta;
        u32 left, level;
        std::size_t id;
    };
    State states[IN_FLIGHT];
    std::size_t active = 0, next = 0;
    auto finish = [&](std::size_t k, u64 a, u64 b) {
        out_lo[states[k].id] = static_cast<i64>(a);
        out_hi[states[k].id] = static_cast<i64>(b);
    };
    auto admit = [&](std::size_t k) {
        while (next < count) {
            const std::size_t id = next++;
            const u32 symbol = symbol_of(view, static_cast<u64>(tokens[id]));
            states[k].id = id;
            if (!usable(view, symbol) || lo[id] >= hi[id]) {
                finish(k, 0, 0);
                continue;
            }
            const SymbolRecord record = view.symbols[symbol];
            const u32 left = std::min<u32>(static_cast<u32>(record.code >> 58), view.level_count);
            states[k] = {static_cast<u64>(lo[id]), static_cast<u64>(hi[id]), record.code, record.delta, left, 0, id};
            if (left == 0) {
                finish(k, 0, 0);
                continue;
            }
            prefetch_place(view.levels[0], states[k].lo);
            prefetch_place(view.levels[0], states[k].hi);
            return true;
        }
        return false;
    };
    while (active < IN_FLIGHT && admit(active)) ++active;
    while (active) {
        for (std::size_t k = 0; k < active;) {
            State& s = states[k];
            const Level& level = view.levels[s.level];
            s.lo = step(place_of(level, s.lo), s.code & 3);
            s.hi = step(place_of(level, s.hi), s.code & 3);
            if (s.lo < s.hi && --s.left) {
                s.code >>= 2;
                ++s.level;
                s.lo = clamp_to(s.lo, level.next_length);
                s.hi = clamp_to(s.hi, level.next_length);
                prefetch_place(view.levels[s.level], s.lo);
                prefetch_place(view.levels[s.level], s.hi);
                ++k;
                continue;
            }
            u64 a = 0, b = 0;
            if (s.lo < s.hi) {
                a = clamp_to(s.lo + static_cast<u64>(s.delta), view.n_rows);
                b = clamp_to(s.hi + static_cast<u64>(s.delta), view.n_rows);
                if (a >= b) a = b = 0;
            }
            finish(k, a, b);
            if (admit(k))
                ++k;
            else
                states[k] = states[--active];
        }
    }
}

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

struct Marked {
    bool set;
    u64 rank;
};

Marked marked(const View& view, u64 row) {
    const u64 line = row / MARK_BITS, offset = row - line * MARK_BITS;
    const u64* words = view.marks + line * LINE_WORDS;
    const u64 word = offset >> 6;
    const u64 bits = words[1 + word];
    if (!(bits >> (offset & 63) & 1)) return {false, 0};
    u64 rank = words[0] + popcount(bits & low_bits(offset & 63));
    for (u64 w = 0; w < word; ++w) rank += popcount(words[1 + w]);
    return {true, rank};
}

void prefetch_mark(const View& view, u64 row) { prefetch(view.marks + row / MARK_BITS * LINE_WORDS); }

u64 start_of(const View& view, u64 doc) { return read_bits(view.starts, doc * view.row_bits, view.row_bits); }

// Reads the document whose end the separator at this rank of the transform marks.
u64 doc_of_end(const View& view, u64 rank) {
    const u64 doc = rank < view.n_docs ? read_bits(view.ends, rank * view.doc_bits, view.doc_bits) : view.n_docs;
    if (doc >= view.n_docs) throw CorruptError("section 'ends' names a document that the index does not have");
    return doc;
}

// Rank of a separator, from where its leaf was left.
u64 end_rank(const View& view, u64 at) { return at + static_cast<u64>(view.symbols[0].delta); }

void positions(const View& view, const u64* rows, u64* out, std::size_t count) {
    struct Walk {
        Descent d;
        u64 row;
        std::size_t id;
        u32 level, steps;
    };
    Walk walks[IN_FLIGHT];
    std::size_t active = 0, next = 0;
    auto admit = [&](std::size_t k) {
        while (next < count) {
            const std::size_t id = next++;
            if (rows[id] < view.n_docs) {
                out[id] = start_of(view, rows[id] + 1) - 1;
                continue;
            }
            walks[k] = {{0, 0}, rows[id], id, NO_TOKEN, 0};
            prefetch_mark(view, rows[id]);
            prefetch_place(view.levels[0], rows[id]);
            return true;
        }
        return false;
    };
    while (active < IN_FLIGHT && admit(active)) ++active;
    while (active) {
        for (std::size_t k = 0; k < active;) {
            Walk& w = walks[k];
            bool done = false;
            if (w.level == NO_TOKEN) {
                const Marked mark = marked(view, w.row);
                if (mark.set) {
                    if (mark.rank >= view.sample_count)
                        throw CorruptError("section 'marks' counts more samples than the index has");
                    out[w.id] =
                        read_bits(view.samples, mark.rank * view.sample_bits, view.sample_bits) * view.sample_rate +
                        w.steps;
                    done = true;
                } else if (w.steps >= view.sample_rate) {
                    throw CorruptError("section 'marks' leaves a row without a sample in reach");
                } else {
                    w.d = {w.row, 0};
                    w.level = 0;
                }
            }
            if (!done) {
                const u32 symbol = descend(view.levels[w.level], w.d);
                if (symbol == NO_TOKEN) {
                    if (++w.level >= view.level_count) throw CorruptError("section 'wavelet' leads nowhere");
                    prefetch_place(view.levels[w.level], w.d.at);
                } else if (symbol == 0) {
                    out[w.id] = start_of(view, doc_of_end(view, end_rank(view, w.d.at))) + w.steps;
                    done = true;
                } else if (symbol >= view.sigma) {
                    throw CorruptError("section 'leaves' names a symbol that the index does not have");
                } else {
                    w.row = clamp_to(w.d.at + static_cast<u64>(view.symbols[symbol].delta), view.n_rows - 1);
                    w.level = NO_TOKEN;
                    ++w.steps;
                    prefetch_mark(view, w.row);
                    prefetch_place(view.levels[0], w.row);
                }
            }
            if (!done || admit(k))
                ++k;
            else
                walks[k] = walks[--active];
        }
    }
}

void extract(const View& view, u64 doc, u64 start, u64 stop, i64* out) {
    u64 row = doc;
    for (u64 k = 0; k < stop; ++k) {
        Descent d{row};
        u32 symbol = NO_TOKEN;
        for (unsigned l = 0; l < view.level_count && symbol == NO_TOKEN; ++l) symbol = descend(view.levels[l], d);
        if (symbol == 0 || symbol >= view.sigma)
            throw CorruptError("section 'wavelet' ends document " + std::to_string(doc) + " too early");
        if (k >= start) out[k - start] = view.tokens[symbol];
        row = clamp_to(d.at + static_cast<u64>(view.symbols[symbol].delta), view.n_rows - 1);
    }
}

void extract_many(const View& view, const u64* docs, const i64* offsets, std::size_t count, i64* out) {
    struct Walk {
        Descent d;
        u64 doc;
        i64 *to, *stop;
        u32 level;
    };
    Walk walks[IN_FLIGHT];
    std::size_t active = 0, next = 0;
    auto admit = [&](std::size_t k) {
        while (next < count) {
            const std::size_t id = next++;
            if (offsets[id] == offsets[id + 1]) continue;
            walks[k] = {{docs[id], 0}, docs[id], out + offsets[id], out + offsets[id + 1], 0};
            prefetch_place(view.levels[0], docs[id]);
            return true;
        }
        return false;
    };
    while (active < IN_FLIGHT && admit(active)) ++active;
    while (active) {
        for (std::size_t k = 0; k < active;) {
            Walk& w = walks[k];
            const u32 symbol = w.level < view.level_count ? descend(view.levels[w.level], w.d) : 0;
            bool done = false;
            if (symbol == NO_TOKEN) {
                if (++w.level < view.level_count) prefetch_place(view.levels[w.level], w.d.at);
            } else {
                if (symbol == 0 || symbol >= view.sigma)
                    throw CorruptError("section 'wavelet' ends document " + std::to_string(w.doc) + " too early");
                *w.to++ = view.tokens[symbol];
                done = w.to == w.stop;
                w.d = {clamp_to(w.d.at + static_cast<u64>(view.symbols[symbol].delta), view.n_rows - 1), 0};
                w.level = 0;
                if (!done) prefetch_place(view.levels[0], w.d.at);
            }
            if (!done || admit(k))
                ++k;
            else
                walks[k] = walks[--active];
        }
    }
}

}  // namespace

}  // namespace gemkr::GEMKR_ISA
