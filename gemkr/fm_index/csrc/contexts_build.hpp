// Chooses the contexts whose successors are written down, the most frequent first, and encodes them.
#pragma once

#include <vector>

#include "buffer.hpp"
#include "kernels.hpp"

namespace gemkr {

struct ContextSections {
    Buffer buckets, entries, lists;
    u64 count = 0;
    unsigned shift = 0;
};

// bwt: the transform; view: the finished wavelet matrix over it; budget: bytes that lists and entries may take.
// The list of the root is always written. Time is bounded by a fixed number of passes over the rows.
template <class Sym>
ContextSections build_contexts(const Sym* bwt, const View& view, const Kernels& kernels, u64 budget);

}  // namespace gemkr
