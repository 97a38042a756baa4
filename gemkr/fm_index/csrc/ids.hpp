// The outside names of the documents, collected for a build.
#pragma once

#include <string>
#include <vector>

#include "buffer.hpp"

namespace gemkr {

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

}  // namespace gemkr
