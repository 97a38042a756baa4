// Derives the order of all suffixes from the sorted seeds in two passes over the rows (Itoh and Tanaka 1999;
// Nong, Zhang and Chan 2009).
//
// Beside every suffix the symbol to its left is kept. A row that is visited so knows where its left neighbour
// goes without looking at the text; the text is read once per suffix, when the row is written. The kept symbols
// are the Burrows-Wheeler transform of the text.
#pragma once

#include <cstddef>
#include <vector>

#include "suffix_sort_types.hpp"

namespace gemkr::suffix_detail {

template <class Sym, class Row>
class Inducer {
public:
    Inducer(const Sym* text, std::size_t n, Row* sa, Sym* left, const Shape<Row>& shape)
        : text_(text), n_(n), sa_(sa), left_(left), shape_(shape), edge_(shape.starts) {}

    // sa[0, seed_count) holds the sorted seeds; afterwards sa holds every suffix and left[k] = text[sa[k] - 1],
    // or 0 where sa[k] = 0.
    template <class Step>
    void run(Step&& step) {
        place_seeds();
        place_separators();
        pass_large([&](double part) { step(part / 2); });
        pass_small([&](double part) { step(0.5 + part / 2); });
    }

private:
    static constexpr std::size_t kAhead = 16;

    // To the end of each bucket, last bucket first: no seed is overwritten before it has moved.
    void place_seeds() {
        std::size_t from = shape_.seed_count;
        for (std::size_t c = shape_.seeds.size(); c-- > 1;) {
            std::size_t to = shape_.starts[c + 1];
            for (Row k = 0; k < shape_.seeds[c]; ++k) sa_[--to] = sa_[--from];
        }
    }

    void place_separators() {
        std::size_t row = 0;
        for (std::size_t i = 0; i < n_; ++i) {
            if (text_[i] != 0) continue;
            sa_[row] = static_cast<Row>(i);
            left_[row++] = i ? text_[i - 1] : Sym{0};
        }
    }

    void put(std::size_t row, Row at) {
        sa_[row] = at;
        left_[row] = at ? text_[at - 1] : Sym{0};
    }

    // edge_[c] is the next free row of bucket c's large suffixes, which grow upwards.
    template <class Step>
    void pass_large(Step&& step) {
        for (std::size_t row = 0; row < shape_.starts[1]; ++row)
            if (left_[row] != 0) put(edge_[left_[row]]++, sa_[row] - 1);
        const std::size_t sigma = shape_.seeds.size();
        for (std::size_t c = 1; c < sigma; ++c) {
            for (std::size_t row = shape_.starts[c]; row < edge_[c]; ++row) {
                if (row + kAhead < edge_[c]) __builtin_prefetch(text_ + sa_[row + kAhead]);
                if (left_[row] >= c) put(edge_[left_[row]]++, sa_[row] - 1);
            }
            const std::size_t end = shape_.starts[c + 1];
            for (std::size_t row = end - shape_.seeds[c]; row < end; ++row) {
                if (row + kAhead < end) __builtin_prefetch(text_ + sa_[row + kAhead]);
                put(edge_[text_[sa_[row] - 1]]++, sa_[row] - 1);
            }
            if (c % 4096 == 0) step(static_cast<double>(end) / static_cast<double>(n_));
        }
        large_ends_ = edge_;
    }

    // edge_[c] is now the last row taken by bucket c's small suffixes, which grow downwards.
    template <class Step>
    void pass_small(Step&& step) {
        const std::size_t sigma = shape_.seeds.size();
        for (std::size_t c = 0; c < sigma; ++c) edge_[c] = shape_.starts[c + 1];
        for (std::size_t c = sigma; c-- > 1;) {
            for (std::size_t row = shape_.starts[c + 1]; row > edge_[c];) {
                --row;
                if (row > edge_[c] + kAhead) __builtin_prefetch(text_ + sa_[row - kAhead]);
                if (left_[row] != 0 && left_[row] <= c) put(--edge_[left_[row]], sa_[row] - 1);
            }
            for (std::size_t row = large_ends_[c]; row > shape_.starts[c];) {
                --row;
                if (row > shape_.starts[c] + kAhead) __builtin_prefetch(text_ + sa_[row - kAhead]);
                if (left_[row] != 0 && left_[row] < c) put(--edge_[left_[row]], sa_[row] - 1);
            }
            if (c % 4096 == 0) step(1 - static_cast<double>(shape_.starts[c]) / static_cast<double>(n_));
        }
    }

    const Sym* text_;
    std::size_t n_;
    Row* sa_;
    Sym* left_;
    const Shape<Row>& shape_;
    std::vector<Row> edge_;
    std::vector<Row> large_ends_;
};

}  // namespace gemkr::suffix_detail
