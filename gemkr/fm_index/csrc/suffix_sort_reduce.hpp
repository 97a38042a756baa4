// Resolves the ties that the seed sorter left by sorting a shorter text (the recursion of SA-IS, Nong, Zhang and
// Chan 2009, cut down to the seeds that need it).
//
// Members of a tied group agree up to their next seed. The shorter text lists, in text order, the group of every
// tied seed and, behind each run of tied seeds, the first seed that is alone; a seed that stands alone ends every
// comparison. The order of the suffixes of the shorter text is the order of those seeds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "suffix_sort_types.hpp"

namespace gemkr {

// The text repeats itself so much that sorting it takes more memory than was allowed.
struct TiesTooLong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace gemkr

namespace gemkr::suffix_detail {

// A set of positions, with the number of members below one.
template <class Row>
class PositionSet {
public:
    explicit PositionSet(std::size_t n) : bits_(n), below_(bits_.words() + 1) {}

    void add(std::size_t at) { bits_.set(at); }
    bool has(std::size_t at) const { return bits_.test(at); }
    void count() {
        for (std::size_t w = 0; w < bits_.words(); ++w)
            below_[w + 1] = below_[w] + static_cast<Row>(__builtin_popcountll(bits_.word(w)));
    }
    std::size_t size() const { return below_.back(); }
    std::size_t below(std::size_t at) const {
        const std::uint64_t lower = bits_.word(at >> 6) & ((std::uint64_t{1} << (at & 63)) - 1);
        return below_[at >> 6] + static_cast<std::size_t>(__builtin_popcountll(lower));
    }
    const BitRow& bits() const { return bits_; }

private:
    BitRow bits_;
    std::vector<Row> below_;
};

// Takes arrays from the unused end of the suffix array while it lasts, then from the heap.
template <class Row>
class Spare {
public:
    Spare(Row* first, std::size_t length) : first_(first), length_(length) {}
    Row* take(std::size_t m) {
        if (m <= length_) {
            length_ -= m;
            return first_ + length_;
        }
        heap_.emplace_back(m);
        return heap_.back().data();
    }

private:
    Row* first_;
    std::size_t length_;
    std::vector<std::vector<Row>> heap_;
};

// Bytes that a shorter text of so many seeds takes from the heap: itself, its suffix array and its transform, as far as
// they do not fit the free memory, and what sorting it takes in turn.
template <class Row>
std::size_t tie_bytes(std::size_t length, std::size_t spare_length) {
    const std::size_t rows = 3 * length;
    return (rows > spare_length ? rows - spare_length : 0) * sizeof(Row) + length / 2 * 5 * sizeof(Row) / 4;
}

// Puts rows[0, seed_count), sorted but for the groups in `tied`, into their final order. spare[0, spare_length) is
// free memory, and `most` bytes may be taken beside it. Throws TiesTooLong where they do not do. recurse(text, sa, bwt, n, sigma) sorts the suffixes of the shorter text.
template <class Row, class Recurse>
void resolve_ties(Row* rows, std::size_t seed_count, Row* spare, std::size_t spare_length, std::size_t n,
                  const BitRow& seed_at, const BitRow& tied, std::size_t most, Recurse&& recurse) {
    PositionSet<Row> members(n);
    for (std::size_t k = tied.next(0, seed_count); k < seed_count; k = tied.next(k + 1, seed_count)) {
        members.add(rows[k - 1]);
        members.add(rows[k]);
    }
    bool after_tied = false;
    for (std::size_t at = seed_at.next(0, n); at < n; at = seed_at.next(at + 1, n)) {
        const bool in_group = members.has(at);
        if (after_tied && !in_group) members.add(at);
        after_tied = in_group;
    }
    members.count();

    const std::size_t length = members.size() + 1;
    if (tie_bytes<Row>(length, spare_length) > most) throw TiesTooLong("the text repeats itself almost whole");
    Spare<Row> memory(spare, spare_length);
    Row* const text = memory.take(length);
    Row* const sa = memory.take(length);
    std::size_t names = 0;
    for (std::size_t k = 0; k < seed_count; ++k) {
        if (!members.has(rows[k])) continue;
        names += !tied.test(k);
        text[members.below(rows[k])] = static_cast<Row>(names);
    }
    text[length - 1] = 0;
    Row* const scratch = memory.take(length);
    recurse(text, sa, scratch, length, names + 1);

    std::size_t m = 0;
    Row* const positions = scratch;
    for (std::size_t at = members.bits().next(0, n); at < n; at = members.bits().next(at + 1, n))
        positions[m++] = static_cast<Row>(at);
    m = 1;
    for (std::size_t k = 0; k < seed_count; ++k)
        if (members.has(rows[k])) rows[k] = positions[sa[m++]];
}

}  // namespace gemkr::suffix_detail
