// A cache of the row ranges of patterns, by the pattern's code. It may forget anything at any time.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "common.hpp"

namespace gemkr {

struct Range {
    u64 lo = 0, hi = 0;
    bool empty() const { return lo >= hi; }
    u64 size() const { return hi - lo; }
};

// Thread-safe. Holds the last SETS x WAYS patterns or so, `width` ranges each.
class StateCache {
public:
    explicit StateCache(std::size_t width) : width_(width) {}

    // Copies the ranges of each code to out + k * width where they are known; appends the places k of the others to missing.
    void find(const i64* codes, std::size_t count, Range* out, std::vector<std::size_t>& missing) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (std::size_t k = 0; k < count; ++k) {
            const u64 slot = keys_.empty() || codes[k] <= 0 ? NONE : slot_of(static_cast<u64>(codes[k]));
            if (slot == NONE)
                missing.push_back(k);
            else
                std::copy_n(ranges_.data() + slot * width_, width_, out + k * width_);
        }
    }

    // Keeps the ranges of codes above 0.
    void keep(const i64* codes, std::size_t count, const Range* ranges) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (keys_.empty()) {
            keys_.assign(SETS * WAYS, 0);
            ranges_.resize(SETS * WAYS * width_);
            next_.assign(SETS, 0);
        }
        for (std::size_t k = 0; k < count; ++k) {
            const u64 code = static_cast<u64>(codes[k]);
            if (codes[k] <= 0 || slot_of(code) != NONE) continue;
            const u64 set = set_of(code), slot = set * WAYS + next_[set]++ % WAYS;
            keys_[slot] = code;
            std::copy_n(ranges + k * width_, width_, ranges_.data() + slot * width_);
        }
    }

    void clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        keys_.clear();
    }

private:
    static constexpr u64 SETS = u64{1} << 13, WAYS = 4, NONE = ~u64{0};

    static u64 set_of(u64 code) { return (code * 0x9E3779B97F4A7C15u) >> 51; }
    u64 slot_of(u64 code) const {
        const u64 first = set_of(code) * WAYS;
        for (u64 slot = first; slot < first + WAYS; ++slot)
            if (keys_[slot] == code) return slot;
        return NONE;
    }

    std::size_t width_;
    std::mutex mutex_;
    std::vector<u64> keys_;
    std::vector<Range> ranges_;
    std::vector<u8> next_;
};

}  // namespace gemkr
