// How much memory a build takes, at once or in blocks, and how large the blocks may be under a limit.
#pragma once

#include "common.hpp"

namespace gemkr {

// What is known of a build before it begins.
struct BuildFacts {
    u64 rows, documents;
    u64 longest;         // rows of the longest document, which no block can cut
    u64 text_bytes;      // as it was collected
    unsigned symbol_bytes;
    bool wide_rows;
    bool repeats;        // the text repeats itself almost whole, which takes the sorter up to 6 bytes more per row
    u64 sigma, vocab;
    unsigned threads;
    u64 wavelet_bytes, other_bytes;  // of the finished index; other: all but wavelet matrix and contexts
    u64 context_budget;

    // A guess for natural language and the default options.
    static BuildFacts guess(u64 rows, u64 documents, bool wide_symbols, unsigned threads);
};

// Peak of a build at once.
u64 whole_bytes(const BuildFacts& facts);
// Peak of a build whose blocks hold so many rows.
u64 blocks_bytes(const BuildFacts& facts, u64 block_rows);
// The least that whole or in blocks can do with.
u64 least_bytes(const BuildFacts& facts);
// Rows of a block within the limit; 0 to build at once. Throws BuildError where neither fits.
u64 rows_within(const BuildFacts& facts, u64 limit);
// Temporary files of a build in blocks.
u64 temporary_bytes(const BuildFacts& facts);

}  // namespace gemkr
