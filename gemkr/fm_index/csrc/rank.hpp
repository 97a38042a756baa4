// Rank and access in the quad wavelet matrix: one cache line per level and position.
//
// Included once per instruction set (see kernels_*.cpp), hence the namespace GEMKR_ISA. Every position returned
// is at most the length of the level below, whatever the lines hold.
#pragma once

#include <algorithm>

#include "view.hpp"

namespace gemkr::GEMKR_ISA {

// The lowest count bits; count may be below 0 or above 64.
inline u64 mask_below(i64 count) {
    const u64 clamped = static_cast<u64>(std::min<i64>(std::max<i64>(count, 0), 64));
#ifdef GEMKR_BMI
    return _bzhi_u64(~u64{0}, clamped);
#else
    return clamped == 64 ? ~u64{0} : (u64{1} << clamped) - 1;
#endif
}

inline u64 popcount(u64 x) { return static_cast<u64>(__builtin_popcountll(x)); }

struct Place {
    const u64* line;
    const u64* super;
    u64 offset;  // digit inside the line
};

inline Place place_of(const Level& level, u64 at) {
    const u64 line = at / LINE_DIGITS;
    return {level.lines + line * LINE_WORDS, level.supers + line / SUPER_LINES * 4, at - line * LINE_DIGITS};
}

inline void prefetch_place(const Level& level, u64 at) { prefetch(level.lines + at / LINE_DIGITS * LINE_WORDS); }

inline u64 clamp_to(u64 at, u64 limit) { return at < limit ? at : limit; }

// Where the digit leads from this place.
inline u64 step(const Place& p, unsigned digit) {
    const u64 low = digit & 1 ? 0 : ~u64{0}, high = digit & 2 ? 0 : ~u64{0};
    const u64* w = p.line;
    const i64 off = static_cast<i64>(p.offset);
    u64 count = popcount((w[1] ^ low) & (w[2] ^ high) & mask_below(off));
    count += popcount((w[3] ^ low) & (w[4] ^ high) & mask_below(off - 64));
    count += popcount((w[5] ^ low) & (w[6] ^ high) & mask_below(off - 128));
    count += popcount((w[7] ^ low) & (w[7] >> 32 ^ high) & mask_below(off - 192) & 0xffffffffu);
    return p.super[digit] + (w[0] >> (16 * digit) & 0xffff) + count;
}

// Where each of the four digits leads.
inline void step_all(const Place& p, u64 out[4]) {
    const u64* w = p.line;
    const i64 off = static_cast<i64>(p.offset);
    u64 low = 0, high = 0, both = 0;
    auto add = [&](u64 l, u64 h, u64 mask) {
        l &= mask;
        h &= mask;
        low += popcount(l);
        high += popcount(h);
        both += popcount(l & h);
    };
    add(w[1], w[2], mask_below(off));
    add(w[3], w[4], mask_below(off - 64));
    add(w[5], w[6], mask_below(off - 128));
    add(w[7] & 0xffffffffu, w[7] >> 32, mask_below(off - 192));
    const u64 counts = w[0];
    out[0] = p.super[0] + (counts & 0xffff) + p.offset - low - high + both;
    out[1] = p.super[1] + (counts >> 16 & 0xffff) + low - both;
    out[2] = p.super[2] + (counts >> 32 & 0xffff) + high - both;
    out[3] = p.super[3] + (counts >> 48) + both;
}

inline unsigned digit_at(const Place& p) {
    const u64 word = p.offset >> 6;
    const bool tail = word == 3;
    const unsigned shift = p.offset & 63;
    const u64 low = p.line[1 + 2 * word] >> shift;
    const u64 high = p.line[tail ? 7 : 2 + 2 * word] >> (tail ? shift + 32 : shift);
    return static_cast<unsigned>((low & 1) | (high & 1) << 1);
}

// Narrows [lo, hi) to the rows of the pattern with the symbol appended. Cost: one line per digit and border.
// Returns false and leaves rubbish when nothing is left.
inline bool extend_symbol(const View& view, u64& lo, u64& hi, u32 symbol) {
    const SymbolRecord record = view.symbols[symbol];
    const unsigned digits = std::min<unsigned>(static_cast<unsigned>(record.code >> 58), view.level_count);
    u64 code = record.code;
    for (unsigned l = 0; l < digits; ++l, code >>= 2) {
        const Level& level = view.levels[l];
        lo = step(place_of(level, lo), code & 3);
        hi = step(place_of(level, hi), code & 3);
        if (lo >= hi) return false;
        if (l + 1 < digits) {
            lo = clamp_to(lo, level.next_length);
            hi = clamp_to(hi, level.next_length);
        }
    }
    lo = clamp_to(lo + static_cast<u64>(record.delta), view.n_rows);
    hi = clamp_to(hi + static_cast<u64>(record.delta), view.n_rows);
    return lo < hi;
}

inline u32 symbol_of(const View& view, u64 token) { return token < view.vocab_size ? view.alphabet[token] : 0; }
inline bool usable(const View& view, u32 symbol) { return symbol != 0 && symbol < view.sigma; }

// A walk from a row down to the leaf of its symbol.
struct Descent {
    u64 at;
    u64 node = 0;
};

// One level down. Returns the leaf's symbol (in a damaged file any number but NO_TOKEN), or NO_TOKEN while above the
// leaves; then d.at is a place below.
inline u32 descend(const Level& level, Descent& d) {
    const Place p = place_of(level, d.at);
    const unsigned digit = digit_at(p);
    const u64 to = step(p, digit);
    const u64 child = digit * level.nodes + d.node;
    d.at = to;
    if (child >= level.leaf_begin) return std::min(level.leaves[child - level.leaf_begin], NO_TOKEN - 1);
    d.node = child;
    d.at = clamp_to(to, level.next_length ? level.next_length - 1 : 0);
    return NO_TOKEN;
}

}  // namespace gemkr::GEMKR_ISA
