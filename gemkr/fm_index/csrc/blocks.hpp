// A text cut into blocks of whole documents that are sorted one at a time and kept in temporary files.
//
// Knows nothing of how the blocks become one transform (that is merge.hpp).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "pool.hpp"
#include "spill.hpp"

namespace gemkr {

struct Block {
    u64 first_row, rows;  // in the text, and so the number of its rows of the transform
    u64 first_doc, docs;
    u64 first_sample, samples;  // text positions that are multiples of the sample rate
};

constexpr std::size_t MAX_BLOCKS = 255;

// Consecutive documents while they fit block_rows; a longer one is a block of its own. Larger blocks where there would
// be more than MAX_BLOCKS. starts: of all documents, and the end of the text.
std::vector<Block> cut_blocks(const std::vector<u64>& starts, u64 block_rows, u64 sample_rate);

// A sampled row of a block: its number among the block's rows, and its text position over the sample rate.
struct Sample {
    u64 row, value;
};

// Everything block by block: the text, the transform, the samples in the order of the rows, the documents of the
// transform's separators, and (for a document array) the document of every row.
struct BlockFiles {
    explicit BlockFiles(const std::string& folder)
        : text(folder), transform(folder), samples(folder), ends(folder), docs(folder) {}
    SpillFile text, transform, samples, ends, docs;
};

struct BlockOptions {
    u64 sigma, sample_rate;
    bool doc_array, wide_rows;
    unsigned threads;
};

// Sorts a block of files.text and writes the other files. Memory: 2 symbols and a row number (4 bytes) per row of the
// block, and what the sorter takes.
template <class Sym>
void sort_block(const Block& block, const std::vector<u64>& starts, const BlockOptions& options, BlockFiles& files,
                const std::function<void(double)>& progress);

}  // namespace gemkr
