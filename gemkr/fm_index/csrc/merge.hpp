// Sorted blocks become one transform: which block each of its rows comes from.
//
// Blocks are joined one after the other. Every suffix of the next block has a place among the suffixes of those
// joined so far; stepping backward through a document's text finds the place of each from the place of the one before,
// with one rank in the wavelet matrix of the joined transform (the counting of Ferragina, Gagie and Manzini, 2012). How
// many land in each gap is all that is needed, because the block itself is sorted already: separators order by
// position, so no comparison depends on what stands behind a document.
#pragma once

#include "blocks.hpp"

namespace gemkr {

// Reads the joined transform of the first blocks, row by row.
template <class Sym>
class MergedRows {
public:
    // origins: the block of every row; null for a single block.
    MergedRows(const BlockFiles& files, const Block* blocks, std::size_t count, const SpillFile* origins);

    static constexpr std::size_t MOST = 4096;
    // The next rows, at most MOST; 0 at the end.
    std::size_t next();
    const Sym* symbols() const { return symbols_.data(); }
    const u8* origins() const { return origins_.data(); }  // of the same rows

private:
    std::vector<SpillReader<Sym>> blocks_;
    std::vector<SpillReader<u8>> order_;  // one, or none for a single block
    std::vector<Sym> symbols_;
    std::vector<u8> origins_;
};

// Bytes beside the wavelet matrix of the joined blocks and a byte per row of them: for the piece of text at hand.
constexpr u64 MERGE_CHUNK_ROWS = 1 << 18;

// Writes the block of every row to origins. progress gets a share in [0, 1].
template <class Sym>
void merge_blocks(const std::vector<Block>& blocks, const std::vector<u64>& starts, u64 sigma, const std::string& folder,
                  const BlockFiles& files, Pool& pool, SpillFile& origins,
                  const std::function<void(double)>& progress);

}  // namespace gemkr
