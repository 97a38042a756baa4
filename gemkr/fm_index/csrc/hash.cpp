#include "hash.hpp"

#include <algorithm>

namespace gemkr {

namespace {

constexpr u64 P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
              P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

u64 rotate(u64 x, unsigned by) { return x << by | x >> (64 - by); }
u64 round(u64 lane, u64 input) { return rotate(lane + input * P2, 31) * P1; }

void stripe(u64* lanes, const u8* at) {
    for (unsigned k = 0; k < 4; ++k) lanes[k] = round(lanes[k], load_unaligned<u64>(at + 8 * k));
}

}  // namespace

void Hasher::update(const void* data, std::size_t size) {
    const u8* at = static_cast<const u8*>(data);
    if (size == 0) return;
    total_ += size;
    if (held_size_) {
        const std::size_t take = std::min<std::size_t>(size, 32 - held_size_);
        std::memcpy(held_ + held_size_, at, take);
        held_size_ += static_cast<unsigned>(take);
        at += take;
        size -= take;
        if (held_size_ < 32) return;
        stripe(lanes_, held_);
        held_size_ = 0;
    }
    for (; size >= 32; at += 32, size -= 32) stripe(lanes_, at);
    if (size) std::memcpy(held_, at, size);
    held_size_ = static_cast<unsigned>(size);
}

u64 Hasher::digest() const {
    u64 h;
    if (total_ >= 32) {
        h = rotate(lanes_[0], 1) + rotate(lanes_[1], 7) + rotate(lanes_[2], 12) + rotate(lanes_[3], 18);
        for (u64 lane : lanes_) h = (h ^ round(0, lane)) * P1 + P4;
    } else {
        h = P5;
    }
    h += total_;
    const u8* at = held_;
    unsigned left = held_size_;
    for (; left >= 8; at += 8, left -= 8) h = rotate(h ^ round(0, load_unaligned<u64>(at)), 27) * P1 + P4;
    if (left >= 4) {
        h = rotate(h ^ load_unaligned<u32>(at) * P1, 23) * P2 + P3;
        at += 4;
        left -= 4;
    }
    for (; left; ++at, --left) h = rotate(h ^ *at * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

u64 hash_bytes(const void* data, std::size_t size) {
    Hasher hasher;
    hasher.update(data, size);
    return hasher.digest();
}

}  // namespace gemkr
