// First pass over the text: which suffixes are the seeds of the induced sort, and how large the buckets are.
//
// A suffix is small (S) when it precedes the suffix one position to its right, else large (L). A seed is an
// S suffix whose left neighbour is L and whose first symbol is a token: at most every second position, in
// natural language about every third. Separators are never seeds: their order is their position.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "suffix_sort_parallel.hpp"

namespace gemkr::suffix_detail {

// A row of bits in 64-bit words; set, clear and test of different bits may run on several threads.
class BitRow {
public:
    explicit BitRow(std::size_t bits) : words_((bits + 63) / 64) {}

    std::size_t words() const { return words_.size(); }
    std::uint64_t word(std::size_t w) const { return words_[w].load(std::memory_order_relaxed); }
    void put_word(std::size_t w, std::uint64_t bits) { words_[w].store(bits, std::memory_order_relaxed); }
    bool test(std::size_t i) const { return word(i >> 6) >> (i & 63) & 1; }
    void set(std::size_t i) { words_[i >> 6].fetch_or(std::uint64_t{1} << (i & 63), std::memory_order_relaxed); }
    void clear(std::size_t i) {
        words_[i >> 6].fetch_and(~(std::uint64_t{1} << (i & 63)), std::memory_order_relaxed);
    }
    // The first set bit at or after i, or `none` when there is none.
    std::size_t next(std::size_t i, std::size_t none) const {
        std::size_t w = i >> 6;
        if (w >= words()) return none;
        std::uint64_t bits = word(w) & (~std::uint64_t{0} << (i & 63));
        while (!bits) {
            if (++w == words()) return none;
            bits = word(w);
        }
        return (w << 6) + static_cast<std::size_t>(__builtin_ctzll(bits));
    }

private:
    std::vector<std::atomic<std::uint64_t>> words_;
};

// What the first pass finds. starts[c] is the first row of bucket c (starts[sigma] = n), seeds[c] the number
// of seeds that begin with c.
template <class Row>
struct Shape {
    BitRow seed_at;
    std::vector<Row> starts;
    std::vector<Row> seeds;
    std::size_t seed_count = 0;
    Shape(std::size_t n, std::size_t sigma) : seed_at(n), starts(sigma + 1), seeds(sigma) {}
};

// Throws std::invalid_argument when the last symbol is not a separator or a symbol is not below sigma.
template <class Sym>
void check_text(const Sym* text, std::size_t n, std::size_t sigma) {
    Sym largest = 0;
    for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, text[i]);
    if (largest >= sigma)
        throw std::invalid_argument("suffix_sort: symbol " + std::to_string(largest) +
                                    " is not below sigma = " + std::to_string(sigma));
    if (text[n - 1] != 0) throw std::invalid_argument("suffix_sort: the text does not end with a separator");
}

// Whether suffix i is of type S; walks to the end of the run of equal symbols.
template <class Sym>
bool is_small(const Sym* text, std::size_t n, std::size_t i) {
    std::size_t j = i + 1;
    while (j < n && text[j] == text[i] && text[i] != 0) ++j;
    return j == n || text[i] == 0 || text[i] < text[j];
}

// Classifies positions [first, last); first is a multiple of 64.
template <class Sym, class Row>
void shape_slice(const Sym* text, std::size_t n, std::size_t first, std::size_t last, BitRow& seed_at,
                 std::vector<Row>& counts, std::vector<Row>& seeds) {
    bool small = is_small(text, n, last - 1);
    std::uint64_t bits = 0;
    for (std::size_t i = last; i-- > first;) {
        const Sym symbol = text[i];
        bool small_before = true;
        if (i > 0) small_before = (text[i - 1] < symbol) | ((text[i - 1] == symbol) & small);
        const bool seed = small & !small_before & (symbol != 0);
        ++counts[symbol];
        seeds[symbol] += seed;
        bits = bits << 1 | seed;
        if ((i & 63) == 0) {
            seed_at.put_word(i >> 6, bits);
            bits = 0;
        }
        small = small_before;
    }
}

template <class Sym, class Row>
Shape<Row> find_shape(const Sym* text, std::size_t n, std::size_t sigma, unsigned threads) {
    Shape<Row> shape(n, sigma);
    std::vector<std::vector<Row>> counts(threads), seeds(threads);
    const std::size_t slice = ((n + threads - 1) / threads + 63) / 64 * 64;
    run_threads(threads, [&](unsigned t) {
        counts[t].resize(sigma);
        seeds[t].resize(sigma);
        const std::size_t first = std::min(n, slice * t), last = std::min(n, slice * (t + 1));
        if (first < last) shape_slice(text, n, first, last, shape.seed_at, counts[t], seeds[t]);
    });
    Row row = 0;
    for (std::size_t c = 0; c < sigma; ++c) {
        shape.starts[c] = row;
        for (unsigned t = 0; t < threads; ++t) {
            row += counts[t][c];
            shape.seeds[c] += seeds[t][c];
        }
        shape.seed_count += shape.seeds[c];
    }
    shape.starts[sigma] = row;
    return shape;
}

}  // namespace gemkr::suffix_detail
