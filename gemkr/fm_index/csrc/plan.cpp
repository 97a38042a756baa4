#include "plan.hpp"

#include <algorithm>

#include "contexts_build.hpp"
#include "merge.hpp"

namespace gemkr {

namespace {

constexpr u64 SMALL_THINGS = u64{2} << 20;  // buffers of all kinds
constexpr u64 BLOCK_BUFFERS = u64{2} << 20;

u64 per_alphabet(const BuildFacts& f) { return f.sigma * (96 + 32 * u64{f.threads}) + 4 * f.vocab; }

// What each thread of the sorter holds of the keys at hand.
u64 bench_bytes(const BuildFacts& f, u64 rows) { return std::min<u64>(rows, 1 << 16) * 64 * f.threads; }

// Sorting a block: two symbols, a row number, and up to 6.5 bytes for texts that repeat themselves almost whole.
u64 sorting_bytes(const BuildFacts& f, u64 block_rows) {
    const u64 row = f.wide_rows || block_rows >= 0xffffffffu ? 8 : 4;
    return block_rows * (2 * f.symbol_bytes + row) + block_rows * 13 / 2 + bench_bytes(f, block_rows);
}

// Choosing the contexts, with all other sections there.
u64 finishing_bytes(const BuildFacts& f) {
    return f.wavelet_bytes + f.other_bytes + context_memory(f.rows, f.vocab, f.context_budget);
}

// All that does not depend on the size of the blocks.
u64 merging_bytes(const BuildFacts& f) {
    const u64 chunk = std::max(MERGE_CHUNK_ROWS * f.threads, f.longest) * (4 + f.symbol_bytes);
    const u64 joining = f.wavelet_bytes + f.rows + chunk;
    return std::max({joining, finishing_bytes(f), f.text_bytes});
}

std::string with_commas(u64 value) {
    std::string text = std::to_string(value);
    for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
    return text;
}

}  // namespace

BuildFacts BuildFacts::guess(u64 rows, u64 documents, bool wide_symbols, unsigned threads) {
    BuildFacts f{};
    f.rows = rows;
    f.documents = documents;
    f.longest = documents ? std::min(rows, 16 * (rows / documents)) : 0;
    f.symbol_bytes = wide_symbols ? 4 : 2;
    f.text_bytes = rows * f.symbol_bytes;
    f.sigma = f.vocab = std::min<u64>(rows, wide_symbols ? 1 << 18 : 1 << 15);
    f.threads = threads;
    f.wavelet_bytes = rows * (wide_symbols ? 17 : 16) / 10;
    f.other_bytes = rows * 3 / 10 + 4 * documents + (1 << 16);  // and padding
    f.context_budget = rows / 2;
    return f;
}

u64 whole_bytes(const BuildFacts& f) {
    const u64 row = f.wide_rows || f.rows >= 0xffffffffu ? 8 : 4;
    const u64 sorting =
        f.rows * (2 * f.symbol_bytes + row) + f.rows * (f.repeats ? 13 : 1) / 2 + bench_bytes(f, f.rows);
    const u64 finishing = f.rows * f.symbol_bytes + finishing_bytes(f) + per_alphabet(f);
    return SMALL_THINGS + 32 * f.documents + std::max(sorting, finishing);
}

u64 blocks_bytes(const BuildFacts& f, u64 block_rows) {
    const u64 largest = std::min(f.rows, std::max(block_rows, f.longest));
    return SMALL_THINGS + BLOCK_BUFFERS + per_alphabet(f) + 32 * f.documents +
           std::max(sorting_bytes(f, largest), merging_bytes(f));
}

u64 least_bytes(const BuildFacts& f) { return std::min(whole_bytes(f), blocks_bytes(f, 1)); }

u64 rows_within(const BuildFacts& f, u64 limit) {
    if (whole_bytes(f) <= limit) return 0;
    if (blocks_bytes(f, 1) > limit)
        throw BuildError("building an index of " + with_commas(f.rows) + " rows takes at least " +
                         with_commas(least_bytes(f)) + " bytes, even in blocks, and the limit is " + with_commas(limit) +
                         "; raise the memory limit to that or split the corpus");
    u64 fits = 1, over = f.rows + 1;
    while (over - fits > 1) {
        const u64 middle = fits + (over - fits) / 2;
        (blocks_bytes(f, middle) <= limit ? fits : over) = middle;
    }
    return fits;
}

u64 temporary_bytes(const BuildFacts& f) {
    return f.rows * (3 * f.symbol_bytes + 2) + f.rows / 2 + 4 * f.documents;
}

}  // namespace gemkr
