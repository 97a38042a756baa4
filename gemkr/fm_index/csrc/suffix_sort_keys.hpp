// Several symbols of a suffix as one 64-bit number that compares like the symbols do.
//
// A key holds 4 symbols of 16 bits, 3 of 21, 2 of 32 or 1 of 64. Symbols behind the first separator are zeroed, so a
// key whose last symbol is zero has reached the end of its document: suffixes that agree on it are ordered by
// their position alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace gemkr::suffix_detail {

template <class Sym, unsigned Width>
struct KeyReader {
    static constexpr unsigned kSymbols = 64 / Width;
    static constexpr std::uint64_t kLast = Width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << Width) - 1;

    static constexpr unsigned kShift = Width % 64;

    const Sym* text;
    std::size_t n;

    std::uint64_t operator()(std::size_t i) const {
        if constexpr (Width == 64) return i < n ? text[i] : 0;
        std::uint64_t key = 0;
        unsigned k = 0;
        for (; k < kSymbols && i + k < n && text[i + k] != 0; ++k) key = key << kShift | text[i + k];
        for (; k < kSymbols; ++k) key <<= kShift;
        return key;
    }
    static bool ended(std::uint64_t key) { return (key & kLast) == 0; }
    void prefetch(std::size_t i) const { __builtin_prefetch(text + i); }
};

template <>
inline std::uint64_t KeyReader<std::uint16_t, 16>::operator()(std::size_t i) const {
    std::uint64_t word = 0;
    if (i + 4 <= n) {
        std::memcpy(&word, text + i, 8);
    } else if (i < n) {
        std::memcpy(&word, text + i, (n - i) * 2);
    }
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = word >> 32 | word << 32;
    word = (word >> 16 & 0x0000ffff0000ffffu) | (word & 0x0000ffff0000ffffu) << 16;
#endif
    const std::uint64_t zero = (word - 0x0001000100010001u) & ~word & 0x8000800080008000u;
    if (zero) word &= ((zero & (~zero + 1)) >> 15) - 1;
    word = word >> 32 | word << 32;
    return (word >> 16 & 0x0000ffff0000ffffu) | (word & 0x0000ffff0000ffffu) << 16;
}

}  // namespace gemkr::suffix_detail
