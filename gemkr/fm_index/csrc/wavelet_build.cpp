#include "wavelet_build.hpp"

#include <algorithm>
#include <array>

namespace gemkr {

namespace {

using Counts = std::array<u64, 4>;

// Digits [begin, end) of a level, begin on a superblock: lines, counts, and each symbol sorted to below.
template <class Sym>
void write_piece(const Sym* from, Sym* to, u64 begin, u64 end, u64 length, const u8* digit_of, Counts next,
                 u64* lines, u64* supers) {
    Counts base = next;
    const u64 last_line = end == length ? length / LINE_DIGITS + 1 : end / LINE_DIGITS;
    for (u64 line = begin / LINE_DIGITS; line < last_line; ++line) {
        if (line % SUPER_LINES == 0) {
            base = next;
            u64* super = supers + line / SUPER_LINES * 4;
            for (unsigned d = 0; d < 4; ++d) super[d] = next[d];
        }
        u64* w = lines + line * LINE_WORDS;
        for (unsigned d = 0; d < 4; ++d) w[0] |= (next[d] - base[d]) << (16 * d);
        const u64 from_here = line * LINE_DIGITS, to_here = std::min(end, from_here + LINE_DIGITS);
        for (u64 word = 0; word < 4 && from_here + word * 64 < to_here; ++word) {
            const u64 first = from_here + word * 64;
            const u64 stop = std::min({to_here, first + 64, from_here + LINE_DIGITS});
            u64 low = 0, high = 0;
            for (u64 k = first; k < stop; ++k) {
                const Sym symbol = from[k];
                const u64 digit = digit_of[symbol];
                low |= (digit & 1) << (k - first);
                high |= (digit >> 1) << (k - first);
                to[next[digit]++] = symbol;
            }
            if (word < 3) {
                w[1 + 2 * word] = low;
                w[2 + 2 * word] = high;
            } else {
                w[7] = low | high << 32;
            }
        }
    }
}

}  // namespace

template <class Sym>
WaveletSections build_wavelet(const Sym* bwt, const CodeBook& book, Pool& pool) {
    const unsigned levels = static_cast<unsigned>(book.lengths.size());
    WaveletSections out;
    u64 line_count = 0, super_count = 0;
    for (u64 length : book.lengths) {
        line_count += length / LINE_DIGITS + 1;
        super_count += ceil_div(length / LINE_DIGITS + 1, SUPER_LINES);
    }
    out.lines.resize(line_count * LINE_WORDS * 8);
    out.supers.resize(super_count * 32);
    if (levels == 0) return out;
    const u64 n = book.lengths[0];
    Buffer one(n * sizeof(Sym)), two(n * sizeof(Sym));
    const Sym* from = bwt;
    Sym* to = one.as<Sym>();
    u64* lines = out.lines.as<u64>();
    u64* supers = out.supers.as<u64>();
    std::vector<u8> digit_of(book.codes.size());
    for (unsigned l = 0; l < levels; ++l) {
        const u64 length = book.lengths[l];
        for (std::size_t s = 0; s < digit_of.size(); ++s) digit_of[s] = book.codes[s] >> (2 * l) & 3;
        const u64 unit = SUPER_LINES * LINE_DIGITS;
        const u64 pieces = std::min<u64>(pool.threads(), ceil_div(length, unit) + (length == 0));
        auto border = [&](u64 piece) { return piece == pieces ? length : ceil_div(length, unit) * piece / pieces * unit; };
        std::vector<Counts> counts(pieces, Counts{});
        pool.run(pieces, [&](std::size_t piece) {
            Counts own{};
            for (u64 k = border(piece), end = border(piece + 1); k < end; ++k) ++own[digit_of[from[k]]];
            counts[piece] = own;
        });
        Counts below{};
        for (unsigned d = 1; d < 4; ++d) {
            below[d] = below[d - 1];
            for (const Counts& own : counts) below[d] += own[d - 1];
        }
        std::vector<Counts> first(pieces, below);
        for (u64 piece = 1; piece < pieces; ++piece)
            for (unsigned d = 0; d < 4; ++d) first[piece][d] = first[piece - 1][d] + counts[piece - 1][d];
        pool.run(pieces, [&](std::size_t piece) {
            write_piece(from, to, border(piece), border(piece + 1), length, digit_of.data(), first[piece], lines,
                        supers);
        });
        lines += (length / LINE_DIGITS + 1) * LINE_WORDS;
        supers += ceil_div(length / LINE_DIGITS + 1, SUPER_LINES) * 4;
        from = to;
        to = to == one.as<Sym>() ? two.as<Sym>() : one.as<Sym>();
    }
    return out;
}

template WaveletSections build_wavelet<u16>(const u16*, const CodeBook&, Pool&);
template WaveletSections build_wavelet<u32>(const u32*, const CodeBook&, Pool&);

}  // namespace gemkr
