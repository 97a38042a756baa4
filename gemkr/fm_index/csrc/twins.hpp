// Equal spans of a batch, so that each is worked out once.
#pragma once

#include <vector>

#include "common.hpp"

namespace gemkr {

struct Twins {
    static constexpr u32 END = ~u32{0};
    std::vector<u32> first;  // the first place of every distinct span
    std::vector<u32> next;   // place -> the next place with the same span, or END

    Twins(const i64* lo, const i64* hi, std::size_t count) : next(count, END) {
        const unsigned bits = bit_width(2 * count);
        const std::size_t table_size = std::size_t{1} << bits;
        std::vector<u32> table(table_size, END), last(count);
        first.reserve(count);
        for (std::size_t k = 0; k < count; ++k) {
            u64 slot = (static_cast<u64>(lo[k]) * 0x9E3779B97F4A7C15u ^ static_cast<u64>(hi[k])) * 0xD6E8FEB86659FD93u;
            for (slot >>= 64 - bits;; slot = (slot + 1) & (table_size - 1)) {
                const u32 found = table[slot];
                if (found == END) {
                    table[slot] = last[k] = static_cast<u32>(k);
                    first.push_back(static_cast<u32>(k));
                    break;
                }
                if (lo[found] == lo[k] && hi[found] == hi[k]) {
                    next[last[found]] = static_cast<u32>(k);
                    last[found] = static_cast<u32>(k);
                    break;
                }
            }
        }
    }
};

}  // namespace gemkr
