// The last pass over sorted and merged blocks: everything that stands in the order of the rows is written at once.
#pragma once

#include "locate_build.hpp"
#include "merge.hpp"
#include "wavelet_build.hpp"

namespace gemkr {

struct Assembled {
    WaveletSections wavelet;
    LocateSections locate;
};

// Fills in the wavelet matrix and what locate needs, and writes the joined transform to a file.
template <class Sym>
Assembled assemble_blocks(const std::vector<Block>& blocks, const BlockFiles& files, const SpillFile& origins,
                          const CodeBook& book, const std::vector<u64>& counts, const BlockOptions& options, Pool& pool,
                          SpillFile& transform, const std::function<void(double)>& progress);

}  // namespace gemkr
