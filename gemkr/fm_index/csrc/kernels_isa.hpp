// The kernels themselves; included by kernels_base.cpp and kernels_bmi.cpp, which name GEMKR_ISA. Here: from a range of rows to that of a
// longer pattern; what may follow a range, and documents of rows, stand in files of their own.
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

}  // namespace

}  // namespace gemkr::GEMKR_ISA
