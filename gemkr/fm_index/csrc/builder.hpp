// From documents to a finished index: text, suffix array, transform, samples, wavelet matrix, contexts.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ids.hpp"
#include "index.hpp"
#include "text.hpp"

namespace gemkr {

struct BuildOptions {
    u64 sample_rate = 32;
    bool doc_array = false;
    unsigned threads = 0;
    double context_bits = 0;    // budget of the precomputed contexts, bits per row; the root's list is always written
    std::string tokenizer;      // fingerprint
    bool wide_rows = false;     // 64-bit rows whatever the size
    u64 memory_limit = 0;       // bytes; beyond it the build goes in blocks. 0: none
    u64 block_rows = 0;         // build in blocks of so many rows whatever the limit
    std::string work_folder;    // for the temporary files of a build in blocks
    // Called on the building thread with the name of a stage and its finished share; may throw to stop.
    std::function<void(const char*, double)> progress;
};

// Consumes text and ids (null: ids are the document numbers). Bytes do not depend on the number of threads.
std::unique_ptr<Index> build_index(TextBuilder& text, const IdTable* ids, const BuildOptions& options);

}  // namespace gemkr
