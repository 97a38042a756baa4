// Resolves the ties that the seed sorter left, by doubling over the sequence of seeds (Larsson and Sadakane 2007).
//
// Seeds are renamed by their order in the text. Members of a tied group agree up to their next seed, so the rank
// of that seed orders them; after round r every group agrees on 2^r seeds. O(seeds log seeds) in the worst case.
// Memory: the upper, unused part of the suffix array, plus the copied keys of one group.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "suffix_sort_seeds.hpp"

namespace gemkr::suffix_detail {

template <class Row>
class RankSorter {
public:
    // rows[0, seeds) holds positions sorted up to `tied`; rank[0, seeds) is free memory.
    RankSorter(Row* rows, Row* rank, std::size_t seeds, const BitRow& seed_at, BitRow& tied, unsigned threads)
        : rows_(rows), rank_(rank), seeds_(seeds), seed_at_(seed_at), tied_(tied), before_(seeds), threads_(threads) {}

    template <class Step>
    void sort(Step&& step) {
        positions_to_names();
        name_groups();
        double rounds = 0;
        for (std::size_t hop = 1; tied_.next(0, seeds_) < seeds_; hop *= 2) {
            before_.copy_from(tied_);
            each_group(before_, [&](Row* first, Row* last, Bench& bench) { order_group(first, last, hop, bench); });
            each_group(before_, [&](Row* first, Row* last, Bench&) { rename_group(first, last); });
            rounds += 1;
            step(rounds / (rounds + 4));
        }
        names_to_positions();
    }

private:
    using Bench = std::vector<Record<Row>>;
    static constexpr std::size_t kChunk = std::size_t{1} << 14;

    void positions_to_names() {
        std::vector<Row> below(seed_at_.words());
        Row sum = 0;
        for (std::size_t w = 0; w < below.size(); ++w) {
            below[w] = sum;
            sum += static_cast<Row>(__builtin_popcountll(seed_at_.word(w)));
        }
        for (std::size_t k = 0; k < seeds_; ++k) {
            const std::size_t at = rows_[k];
            const std::uint64_t lower = seed_at_.word(at >> 6) & ((std::uint64_t{1} << (at & 63)) - 1);
            rows_[k] = below[at >> 6] + static_cast<Row>(__builtin_popcountll(lower));
        }
    }

    // The rank of a group is its first row.
    void name_groups() {
        std::size_t head = 0;
        for (std::size_t k = 0; k < seeds_; ++k) {
            if (!tied_.test(k)) head = k;
            rank_[rows_[k]] = static_cast<Row>(head);
        }
    }

    // Calls work(first, last, bench) for every maximal run of rows tied in `bits`, spread over the threads.
    template <class Work>
    void each_group(const BitRow& bits, Work&& work) {
        std::atomic<std::size_t> next{0};
        run_threads(threads_, [&](unsigned) {
            Bench bench;
            for (std::size_t chunk; (chunk = next.fetch_add(kChunk)) < seeds_;) {
                const std::size_t limit = std::min(seeds_, chunk + kChunk);
                std::size_t k = bits.next(chunk, seeds_);
                if (k == chunk && k > 0 && bits.test(k - 1)) {
                    while (k < seeds_ && bits.test(k)) ++k;
                    k = bits.next(k, seeds_);
                }
                while (k < limit) {
                    std::size_t end = k + 1;
                    while (end < seeds_ && bits.test(end)) ++end;
                    work(rows_ + k - 1, rows_ + end, bench);
                    k = bits.next(end, seeds_);
                }
            }
        });
    }

    void order_group(Row* first, Row* last, std::size_t hop, Bench& bench) {
        auto key = [&](Row name) { return std::uint64_t{rank_[name + hop]}; };
        auto untie = [&](Row* row) {
            if (row != first) tied_.clear(static_cast<std::size_t>(row - rows_));
        };
        auto leaf = [&](Row* a, Row* b) {
            const std::size_t m = static_cast<std::size_t>(b - a);
            if (bench.size() < m) bench.resize(m);
            for (std::size_t k = 0; k < m; ++k) bench[k] = {key(a[k]), a[k]};
            sort_records(bench.data(), bench.data() + m);
            for (std::size_t k = 0; k < m; ++k) {
                a[k] = bench[k].at;
                if (k == 0 || bench[k].key != bench[k - 1].key) untie(a + k);
            }
        };
        auto equal = [&](Row* a, Row* b, std::uint64_t) {
            untie(a);
            if (b != last) untie(b);
        };
        const std::size_t limit = std::max<std::size_t>(std::size_t{1} << 16, seeds_ / 16);
        // A range of one entry never reaches leaf; its neighbours untie it.
        ternary_sort(first, last, limit, key, leaf, equal);
    }

    void rename_group(Row* first, Row* last) {
        Row head = 0;
        for (Row* row = first; row < last; ++row) {
            const std::size_t k = static_cast<std::size_t>(row - rows_);
            if (row == first || !tied_.test(k)) head = static_cast<Row>(k);
            rank_[*row] = head;
        }
    }

    // Every rank is a row of its own now: walk the seeds in text order and put each where it belongs.
    void names_to_positions() {
        std::size_t name = 0;
        for (std::size_t w = 0; w < seed_at_.words(); ++w)
            for (std::uint64_t bits = seed_at_.word(w); bits; bits &= bits - 1)
                rows_[rank_[name++]] = static_cast<Row>((w << 6) + static_cast<std::size_t>(__builtin_ctzll(bits)));
    }

    Row* rows_;
    Row* rank_;
    std::size_t seeds_;
    const BitRow& seed_at_;
    BitRow& tied_;
    BitRow before_;
    unsigned threads_;
};

}  // namespace gemkr::suffix_detail
