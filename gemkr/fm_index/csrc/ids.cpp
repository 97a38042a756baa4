#include "ids.hpp"

#include <algorithm>
#include <utility>

#include "hash.hpp"

namespace gemkr {

void IdTable::add(const char* text, std::size_t size) {
    texts_.append(text, size);
    offsets_.push_back(texts_.size());
}

void IdTable::check_distinct() const {
    const u64 count = size();
    auto text_of = [&](u64 k) { return texts_.substr(offsets_[k], offsets_[k + 1] - offsets_[k]); };
    std::vector<std::pair<u64, u64>> hashes(count);
    for (u64 k = 0; k < count; ++k)
        hashes[k] = {hash_bytes(texts_.data() + offsets_[k], offsets_[k + 1] - offsets_[k]), k};
    std::sort(hashes.begin(), hashes.end());
    for (u64 k = 0; k < count; ++k) {
        for (u64 j = k + 1; j < count && hashes[j].first == hashes[k].first; ++j) {
            if (text_of(hashes[j].second) != text_of(hashes[k].second)) continue;
            throw BuildError("document id '" + text_of(hashes[k].second) + "' is given to document " +
                             std::to_string(hashes[k].second) + " and to document " +
                             std::to_string(hashes[j].second) + "; ids must be distinct");
        }
    }
}

Buffer IdTable::texts() const {
    Buffer out(texts_.size());
    if (!texts_.empty()) std::memcpy(out.data(), texts_.data(), texts_.size());
    return out;
}

}  // namespace gemkr
