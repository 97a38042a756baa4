// Sorts the seed suffixes by their symbols, bucket by bucket, as deep as it pays.
//
// Within a bucket the work goes level by level: read one key (several symbols) of every suffix still tied, sort the
// groups, keep those that stay tied for the next level. Small groups are followed to their end at once. Ties that
// outlast TieLimits are left to a shorter text, once every member has the next seed inside the symbols already
// compared.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "suffix_sort_keys.hpp"
#include "suffix_sort_records.hpp"
#include "suffix_sort_ternary.hpp"
#include "suffix_sort_types.hpp"

namespace gemkr::suffix_detail {

// When ties are left to the shorter text: beyond `deep` symbols once `reads` key reads per seed are spent, and beyond
// `deepest` symbols in any case. The result is the same for all values. `bytes`: what the shorter text may take from the
// heap.
struct TieLimits {
    std::size_t deep = 32;
    std::size_t deepest = 1024;
    std::int64_t reads = 32;
    std::size_t bytes = ~std::size_t{0};
};

template <class Sym, class Row, unsigned Width>
class SeedSorter {
public:
    // `rows` holds the seeds, bucket after bucket; `tied` receives a bit for every row left equal to the row
    // before it.
    SeedSorter(const Sym* text, std::size_t n, Row* rows, std::size_t seed_count, const BitRow& seed_at, BitRow& tied,
               const TieLimits& limits)
        : reader_{text, n},
          n_(n),
          rows_(rows),
          seed_at_(seed_at),
          tied_(tied),
          limit_(std::max<std::size_t>(kLeast, seed_count / 32)),
          budget_(static_cast<std::int64_t>(seed_count) * limits.reads),
          limits_(limits) {}

    struct Range {
        Row* first;
        Row* last;
        std::size_t depth;
    };

    bool any_tied() const { return any_tied_.load(); }

    // One per thread: copies of keys, tied groups still to sort, and a share of the budget.
    struct Bench {
        std::vector<Record<Row>> records, room;
        std::vector<std::pair<Row*, std::size_t>> groups, next;
        std::vector<Range> pending;
        std::int64_t allowance = 0;
    };

    void sort(Row* first, Row* last, Bench& bench) {
        bench.pending.push_back({first, last, 1});
        while (!bench.pending.empty()) {
            const Range range = bench.pending.back();
            bench.pending.pop_back();
            sort_range(range, bench);
        }
    }

private:
    static constexpr std::size_t kSymbols = KeyReader<Sym, Width>::kSymbols;
    static constexpr std::size_t kLeast = std::size_t{1} << 16;
    static constexpr std::int64_t kFarRead = 16;
    static constexpr std::int64_t kShare = 4096;
    static constexpr std::size_t kTiny = 8;
    static constexpr std::size_t kAhead = 16;

    void sort_range(const Range& range, Bench& bench) {
        const std::size_t depth = range.depth;
        ternary_sort(
            range.first, range.last, limit_, [&](Row at) { return reader_(at + depth); },
            [&](Row* a, Row* b) { sort_leaf(a, b, depth, bench); },
            [&](Row* a, Row* b, std::uint64_t key) {
                if (b - a < 2) return;
                if (reader_.ended(key)) {
                    std::sort(a, b);
                } else if (!set_aside(a, b, depth + kSymbols, bench)) {
                    bench.pending.push_back({a, b, depth + kSymbols});
                }
            });
    }

    void sort_leaf(Row* first, Row* last, std::size_t depth, Bench& bench) {
        const std::size_t m = static_cast<std::size_t>(last - first);
        if (bench.records.size() < m) {
            bench.records.resize(m);
            bench.room.resize(m);
        }
        bench.groups.assign(1, {first, m});
        while (!bench.groups.empty()) {
            bench.next.clear();
            for (std::size_t g = 0; g < bench.groups.size(); ++g) {
                if (g + kAhead < bench.groups.size()) {
                    const auto [ahead, size] = bench.groups[g + kAhead];
                    for (std::size_t k = 0; k < std::min<std::size_t>(size, 4); ++k) reader_.prefetch(ahead[k] + depth);
                }
                const auto [rows, size] = bench.groups[g];
                if (size <= kTiny) {
                    sort_tiny(rows, size, depth, bench);
                } else if (!set_aside(rows, rows + size, depth, bench)) {
                    sort_group(rows, size, depth, bench);
                }
            }
            depth += kSymbols;
            bench.groups.swap(bench.next);
        }
    }

    // Down to the end of all ties at once: what follows the symbols just read lies in the same cache lines.
    void sort_tiny(Row* rows, std::size_t m, std::size_t depth, Bench& bench) {
        for (; !set_aside(rows, rows + m, depth, bench); depth += kSymbols) {
            Record<Row> records[kTiny];
            for (std::size_t k = 0; k < m; ++k) records[k] = {reader_(rows[k] + depth), rows[k]};
            insertion_sort(records, records + m);
            if (records[0].key == records[m - 1].key && !reader_.ended(records[0].key)) continue;
            for (std::size_t k = 0; k < m; ++k) rows[k] = records[k].at;
            for (std::size_t k = 0, end; k < m; k = end) {
                for (end = k + 1; end < m && records[end].key == records[k].key;) ++end;
                if (end - k < 2) continue;
                if (reader_.ended(records[k].key)) {
                    std::sort(rows + k, rows + end);
                } else {
                    sort_tiny(rows + k, end - k, depth + kSymbols, bench);
                }
            }
            return;
        }
    }

    void sort_group(Row* rows, std::size_t m, std::size_t depth, Bench& bench) {
        Record<Row>* records = bench.records.data();
        for (std::size_t k = 0; k < m; ++k) {
            if (k + kAhead < m) reader_.prefetch(rows[k + kAhead] + depth);
            records[k] = {reader_(rows[k] + depth), rows[k]};
        }
        Row* out = rows;
        sort_records(records, bench.room.data(), m, [&](const Record<Row>* run, const Record<Row>* run_end) {
            while (run < run_end) {
                const std::uint64_t key = run->key;
                Row* const group = out;
                do *out++ = run++->at;
                while (run < run_end && run->key == key);
                if (out - group < 2) continue;
                if (reader_.ended(key)) {
                    std::sort(group, out);
                } else {
                    bench.next.emplace_back(group, out - group);
                }
            }
        });
    }

    // Pays for one read of every member of a group of m; false when the budget is spent. A group that is sorted level
    // by level finds its text out of the cache again.
    bool spend(std::size_t m, Bench& bench) {
        bench.allowance -= static_cast<std::int64_t>(m <= kTiny ? m : m * kFarRead);
        if (bench.allowance >= 0) return true;
        if (budget_.load(std::memory_order_relaxed) <= 0) return false;
        const std::int64_t share = std::max(kShare, -bench.allowance);
        budget_.fetch_sub(share, std::memory_order_relaxed);
        bench.allowance += share;
        return true;
    }

    // Whether a group, equal in `depth` symbols, is left to the shorter text: when it is deep, the budget is spent and
    // all members have the next seed at the same distance inside those symbols. Beyond the deepest limit this is
    // asked at powers of two only, since finding the next seed may take as long as the ties do.
    bool set_aside(Row* first, Row* last, std::size_t depth, Bench& bench) {
        if (depth <= limits_.deep) return false;
        if (spend(static_cast<std::size_t>(last - first), bench) && depth < limits_.deepest) return false;
        const std::size_t step = depth / kSymbols;
        if (depth > limits_.deepest && (step & (step - 1)) != 0) return false;
        auto distance = [&](Row at) { return seed_at_.next(std::size_t{at} + 1, n_) - at; };
        const std::size_t common = distance(*first);
        if (common >= depth) return false;
        for (Row* row = first + 1; row < last; ++row)
            if (distance(*row) != common) return false;
        for (Row* row = first + 1; row < last; ++row) tied_.set(static_cast<std::size_t>(row - rows_));
        any_tied_.store(true);
        return true;
    }

    KeyReader<Sym, Width> reader_;
    std::size_t n_;
    Row* rows_;
    const BitRow& seed_at_;
    BitRow& tied_;
    std::size_t limit_;
    std::atomic<std::int64_t> budget_;
    const TieLimits limits_;
    std::atomic<bool> any_tied_{false};
};

// Writes the seed positions to rows[0, seed_count), bucket after bucket, ascending in each.
template <class Sym, class Row>
void distribute_seeds(const Sym* text, const Shape<Row>& shape, Row* rows) {
    std::vector<Row> heads(shape.seeds.size());
    Row row = 0;
    for (std::size_t c = 0; c < heads.size(); ++c) {
        heads[c] = row;
        row += shape.seeds[c];
    }
    for (std::size_t w = 0; w < shape.seed_at.words(); ++w) {
        for (std::uint64_t bits = shape.seed_at.word(w); bits; bits &= bits - 1) {
            const std::size_t at = (w << 6) + static_cast<std::size_t>(__builtin_ctzll(bits));
            rows[heads[text[at]]++] = static_cast<Row>(at);
        }
    }
}

// Sorts every bucket of rows[0, seed_count); step(fraction) is called now and then on the calling thread.
template <unsigned Width, class Sym, class Row, class Step>
bool sort_seed_buckets(const Sym* text, std::size_t n, const Shape<Row>& shape, Row* rows, BitRow& tied,
                       unsigned threads, const TieLimits& limits, Step&& step) {
    SeedSorter<Sym, Row, Width> sorter(text, n, rows, shape.seed_count, shape.seed_at, tied, limits);
    // Cut points between buckets so that one cut holds some ten thousand seeds.
    std::vector<std::size_t> bucket_ends, cuts{0};
    std::size_t end = 0;
    constexpr std::size_t kCut = 16384;
    std::size_t last_cut = 0;
    for (const Row count : shape.seeds) {
        if (!count) continue;
        end += count;
        bucket_ends.push_back(end);
        if (end - last_cut >= kCut || end == shape.seed_count) {
            cuts.push_back(bucket_ends.size());
            last_cut = end;
        }
    }
    std::atomic<std::size_t> next{0};
    run_threads(threads, [&](unsigned t) {
        typename SeedSorter<Sym, Row, Width>::Bench bench;
        for (std::size_t cut; (cut = next.fetch_add(1)) + 1 < cuts.size();) {
            for (std::size_t b = cuts[cut]; b < cuts[cut + 1]; ++b)
                sorter.sort(rows + (b ? bucket_ends[b - 1] : 0), rows + bucket_ends[b], bench);
            if (t == 0 && cut % 16 == 0) step(static_cast<double>(cut) / static_cast<double>(cuts.size()));
        }
    });
    return sorter.any_tied();
}

// The same, with as many symbols to a key as the alphabet allows.
template <class Sym, class Row, class Step>
bool sort_seeds(const Sym* text, std::size_t n, std::size_t sigma, const Shape<Row>& shape, Row* rows, BitRow& tied,
                unsigned threads, const TieLimits& limits, Step&& step) {
    if constexpr (sizeof(Sym) == 2) {
        return sort_seed_buckets<16>(text, n, shape, rows, tied, threads, limits, step);
    } else {
        if (sigma <= std::size_t{1} << 21)
            return sort_seed_buckets<21>(text, n, shape, rows, tied, threads, limits, step);
        if (sizeof(Sym) == 4 || sigma <= std::size_t{1} << 32)
            return sort_seed_buckets<32>(text, n, shape, rows, tied, threads, limits, step);
        return sort_seed_buckets<64>(text, n, shape, rows, tied, threads, limits, step);
    }
}

}  // namespace gemkr::suffix_detail
