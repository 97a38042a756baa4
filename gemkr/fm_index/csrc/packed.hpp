// Integers of a fixed width below 58 bits, one after the other without gaps, little endian.
// Every packed section ends with 8 spare bytes, so that a read of 8 bytes at any value stays inside.
#pragma once

#include "common.hpp"

namespace gemkr {

constexpr u64 PACKED_SLACK = 8;
constexpr unsigned PACKED_MAX_WIDTH = 57;

inline u64 packed_bytes(u64 count, unsigned width) { return ceil_div(count * width, 8) + PACKED_SLACK; }

inline u64 read_bits(const u8* base, u64 bit, unsigned width) {
    return load_unaligned<u64>(base + (bit >> 3)) >> (bit & 7) & low_bits(width);
}

// Adds the value to zeroed bits.
inline void write_bits(u8* base, u64 bit, unsigned width, u64 value) {
    u64 word = load_unaligned<u64>(base + (bit >> 3));
    word |= (value & low_bits(width)) << (bit & 7);
    std::memcpy(base + (bit >> 3), &word, 8);
}

}  // namespace gemkr
