// Makes the lines of the quad wavelet matrix from the transform.
#pragma once

#include "buffer.hpp"
#include "huffman.hpp"
#include "pool.hpp"

namespace gemkr {

struct WaveletSections {
    Buffer lines, supers;
};

// Memory beside the result: two copies of the transform. The bytes do not depend on the number of threads.
template <class Sym>
WaveletSections build_wavelet(const Sym* bwt, const CodeBook& book, Pool& pool);

}  // namespace gemkr
