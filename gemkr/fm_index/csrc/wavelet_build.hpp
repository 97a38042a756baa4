// Makes the lines of the quad wavelet matrix from the transform, all levels in one pass over it.
//
// A node of the code tree owns one stretch of its level, and where that begins follows from the counts of the
// symbols. So every symbol can be written to all its levels at once, wherever the transform comes from.
#pragma once

#include "buffer.hpp"
#include "huffman.hpp"
#include "pool.hpp"

namespace gemkr {

struct WaveletSections {
    Buffer lines, supers;
};

u64 wavelet_bytes(const CodeBook& book);
// Room for the lines and supers of these codes, all zero.
WaveletSections wavelet_room(const CodeBook& book);

// Writes digits into the lines, row by row. Memory: 32 bytes per inner node of the code tree.
class WaveletWriter {
public:
    // counts: of all rows; before: of the rows before the first that add will see (null: none). The pieces of a
    // transform may be written at the same time by writers of their own.
    WaveletWriter(const CodeBook& book, const std::vector<u64>& counts, const u64* before, WaveletSections& out);
    template <class Sym>
    void add(const Sym* symbols, u64 count);
    // After the last row.
    void flush();

private:
    struct Pen {
        u64 low = 0, high = 0;
        u64* word = nullptr;  // of the low bits
        u32 bit = 0, end = 0;
    };
    static void put_down(Pen& pen);

    const std::vector<u64>& codes_;
    std::vector<Pen> pens_;          // level by level, one per inner node
    std::vector<std::size_t> first_;  // per level: its first pen
};

// Fills in the counters, after all digits are written.
void count_digits(const CodeBook& book, WaveletSections& sections, Pool& pool);

// The same for a transform in memory, in pieces. The bytes do not depend on the number of threads.
template <class Sym>
WaveletSections build_wavelet(const Sym* bwt, u64 rows, const CodeBook& book, const std::vector<u64>& counts,
                              Pool& pool);

}  // namespace gemkr
