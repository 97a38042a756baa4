// Sorts small records by a 64-bit key: distribution by the leading bits that differ, insertion for what is small.
//
// Knows nothing of texts. Sorted runs are handed out in ascending order wherever they lie, so nothing is copied
// back; records of equal keys are always in the same run.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace gemkr::suffix_detail {

template <class Row>
struct Record {
    std::uint64_t key;
    Row at;
};

template <class Row>
void insertion_sort(Record<Row>* first, Record<Row>* last) {
    for (Record<Row>* i = first + 1; i < last; ++i) {
        const Record<Row> moved = *i;
        Record<Row>* hole = i;
        for (; hole > first && moved.key < hole[-1].key; --hole) *hole = hole[-1];
        *hole = moved;
    }
}

// Sorts records[0, m) with other[0, m) as room and calls emit(first, last) for every sorted run, ascending. A level
// spreads the keys over their range into m / 4 to m / 2 bins, at most 2,048: it costs O(m) and leaves at least 3 bits
// less to look at, so there are at most 21 levels.
template <class Row, class Emit>
void sort_records(Record<Row>* records, Record<Row>* other, std::size_t m, Emit&& emit) {
    constexpr std::size_t kSmall = 16;
    constexpr unsigned kBits = 11;
    if (m <= kSmall) {
        insertion_sort(records, records + m);
        emit(records, records + m);
        return;
    }
    std::uint64_t least = records[0].key, most = least;
    for (std::size_t i = 1; i < m; ++i) {
        least = std::min(least, records[i].key);
        most = std::max(most, records[i].key);
    }
    if (least == most) {
        emit(records, records + m);
        return;
    }
    const unsigned bits = std::min(kBits, static_cast<unsigned>(62 - __builtin_clzll(m)));
    const unsigned width = static_cast<unsigned>(64 - __builtin_clzll(most - least));
    const unsigned shift = width > bits ? width - bits : 0;
    std::array<std::uint32_t, (std::size_t{1} << kBits) + 1> ends;
    const std::size_t bins = static_cast<std::size_t>((most - least) >> shift) + 1;
    std::fill_n(ends.begin(), bins + 1, 0u);
    for (std::size_t i = 0; i < m; ++i) ++ends[((records[i].key - least) >> shift) + 1];
    for (std::size_t b = 1; b < bins; ++b) ends[b] += ends[b - 1];
    for (std::size_t i = 0; i < m; ++i) other[ends[(records[i].key - least) >> shift]++] = records[i];
    for (std::size_t b = 0, start = 0; b < bins; ++b) {
        const std::size_t end = ends[b];
        if (end - start == 1) {
            emit(other + start, other + end);
        } else if (end > start) {
            sort_records(other + start, records + start, end - start, emit);
        }
        start = end;
    }
}

}  // namespace gemkr::suffix_detail
