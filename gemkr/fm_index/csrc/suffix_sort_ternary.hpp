// Ternary quicksort in place, for ranges too large to copy their keys beside them.
//
// Knows only a key function over entries; what happens to small ranges and to ranges of equal keys is the
// caller's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace gemkr::suffix_detail {

// Orders [first, last) by key, without looking below ranges of `limit` entries: leaf(first, last) sorts those,
// equal(first, last, key) takes a range whose keys are all `key`. Expected cost O(m log m) key reads; the
// pivots come from a fixed sequence, so a run is repeatable.
template <class Row, class Key, class Leaf, class Equal>
void ternary_sort(Row* first, Row* last, std::size_t limit, Key&& key, Leaf&& leaf, Equal&& equal) {
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    auto draw = [&](std::size_t m) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return static_cast<std::size_t>(state % m);
    };
    while (static_cast<std::size_t>(last - first) > limit) {
        const std::size_t m = static_cast<std::size_t>(last - first);
        std::uint64_t a = key(first[draw(m)]), b = key(first[draw(m)]), c = key(first[draw(m)]);
        if (a > b) std::swap(a, b);
        const std::uint64_t pivot = c < a ? a : c > b ? b : c;
        Row *low = first, *mid = first, *high = last;
        while (mid < high) {
            const std::uint64_t k = key(*mid);
            if (k < pivot) {
                std::swap(*low++, *mid++);
            } else if (k > pivot) {
                std::swap(*mid, *--high);
            } else {
                ++mid;
            }
        }
        equal(low, high, pivot);
        if (low - first < last - high) {
            ternary_sort(first, low, limit, key, leaf, equal);
            first = high;
        } else {
            ternary_sort(high, last, limit, key, leaf, equal);
            last = low;
        }
    }
    if (last - first > 1) leaf(first, last);
}

}  // namespace gemkr::suffix_detail
