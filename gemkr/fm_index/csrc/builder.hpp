// From documents to a finished index: text, suffix array, transform, samples, wavelet matrix, contexts.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
    // Called on the building thread with the name of a stage and its finished share; may throw to stop.
    std::function<void(const char*, double)> progress;
};

class IdTable {
public:
    void add(const char* text, std::size_t size);
    u64 size() const { return offsets_.size() - 1; }
    // Throws BuildError that names an id given twice.
    void check_distinct() const;
    const std::vector<u64>& offsets() const { return offsets_; }  // where each id begins, and the end
    Buffer texts() const;
    const std::string& blob() const { return texts_; }

private:
    std::vector<u64> offsets_ = {0};
    std::string texts_;
};

// Consumes text and ids (null: ids are the document numbers). Bytes do not depend on the number of threads.
std::unique_ptr<Index> build_index(TextBuilder& text, const IdTable* ids, const BuildOptions& options);

}  // namespace gemkr
