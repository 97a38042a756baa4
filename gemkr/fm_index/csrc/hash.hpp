// XXH64, written from its public specification: checksums of sections and the hash of the corpus.
#pragma once

#include "common.hpp"

namespace gemkr {

// Streaming XXH64 with seed 0. Feed any pieces; digest() may be asked at any time.
class Hasher {
public:
    void update(const void* data, std::size_t size);
    u64 digest() const;

private:
    u64 lanes_[4] = {0x9E3779B185EBCA87u + 0xC2B2AE3D27D4EB4Fu, 0xC2B2AE3D27D4EB4Fu, 0,
                     u64{0} - 0x9E3779B185EBCA87u};
    u64 total_ = 0;
    u8 held_[32] = {};
    unsigned held_size_ = 0;
};

u64 hash_bytes(const void* data, std::size_t size);

}  // namespace gemkr
