#include "huffman.hpp"

#include <algorithm>
#include <numeric>

namespace gemkr {

namespace {

// Code length of each weight, weights ascending, their number 3m + 1.
std::vector<unsigned> code_lengths(const std::vector<u64>& weights) {
    const std::size_t leaves = weights.size(), inner = (leaves - 1) / 3;
    std::vector<u64> sums(inner);
    std::vector<std::size_t> parent(leaves + inner, 0);
    std::size_t leaf = 0, made = 0;
    for (std::size_t k = 0; k < inner; ++k) {
        for (unsigned child = 0; child < 4; ++child) {
            const bool take_leaf = leaf < leaves && (made >= k || weights[leaf] <= sums[made]);
            const std::size_t node = take_leaf ? leaf++ : leaves + made++;
            sums[k] += take_leaf ? weights[node] : sums[node - leaves];
            parent[node] = leaves + k;
        }
    }
    std::vector<unsigned> depth(leaves + inner, 0);
    for (std::size_t node = leaves + inner - 1; node-- > 0;) depth[node] = depth[parent[node]] + 1;
    depth.resize(leaves);
    return depth;
}

}  // namespace

CodeBook make_codes(const std::vector<u64>& counts) {
    const std::size_t sigma = counts.size();
    CodeBook book;
    if (sigma == 0) return book;
    std::size_t padded = std::max<std::size_t>(sigma, 4);
    while ((padded - 1) % 3) ++padded;
    std::vector<u32> order(padded);
    std::iota(order.begin(), order.end(), u32{0});
    auto count_of = [&](u32 symbol) { return symbol < sigma ? counts[symbol] : u64{0}; };
    std::stable_sort(order.begin(), order.end(), [&](u32 a, u32 b) { return count_of(a) < count_of(b); });
    std::vector<u64> weights(padded);
    for (std::size_t k = 0; k < padded; ++k) weights[k] = count_of(order[k]);
    std::vector<unsigned> lengths = code_lengths(weights);
    // A text of fewer than 2^34 tokens cannot get here; flatter weights bound the depth for all others.
    while (*std::max_element(lengths.begin(), lengths.end()) > MAX_LEVELS) {
        for (u64& weight : weights) weight = weight / 2 + 1;
        lengths = code_lengths(weights);
    }
    const unsigned levels = *std::max_element(lengths.begin(), lengths.end());
    std::vector<std::vector<u32>> ending(levels + 1);
    for (std::size_t k = 0; k < padded; ++k) ending[lengths[k]].push_back(order[k]);

    book.codes.assign(sigma, 0);
    book.leaf_start.assign(sigma, 0);
    std::vector<u64> prefixes(1, 0);
    std::vector<std::size_t> child_of(padded, 0);  // child number of each symbol on its last level
    for (unsigned l = 0; l < levels; ++l) {
        auto& symbols = ending[l + 1];
        std::sort(symbols.begin(), symbols.end());
        const std::size_t children = 4 * prefixes.size(), begin = children - symbols.size();
        std::vector<u64> next(begin);
        for (std::size_t child = 0; child < children; ++child) {
            const u64 digit = child / prefixes.size();
            const u64 code = prefixes[child % prefixes.size()] | digit << (2 * l);
            if (child < begin) {
                next[child] = code;
                continue;
            }
            const u32 symbol = symbols[child - begin];
            book.leaves.push_back(symbol < sigma ? symbol : NO_TOKEN);
            child_of[symbol] = child;
            if (symbol < sigma) book.codes[symbol] = code | u64{l + 1} << 58;
        }
        book.leaf_begin.push_back(begin);
        prefixes = std::move(next);
    }
    // How many occurrences pass each child of a level: the place of a leaf is the sum of the children before it.
    std::vector<std::size_t> node(sigma, 0);
    std::size_t nodes = 1;
    for (unsigned l = 0; l < levels; ++l) {
        std::vector<u64> passing(4 * nodes, 0);
        u64 total = 0;
        for (std::size_t s = 0; s < sigma; ++s) {
            if ((book.codes[s] >> 58) <= l) continue;
            const std::size_t child = (book.codes[s] >> (2 * l) & 3) * nodes + node[s];
            passing[child] += counts[s];
            total += counts[s];
            node[s] = child;
        }
        book.lengths.push_back(total);
        u64 before = 0;
        for (u64& count : passing) {
            const u64 own = count;
            count = before;
            before += own;
        }
        for (std::size_t s = 0; s < sigma; ++s)
            if ((book.codes[s] >> 58) == l + 1) book.leaf_start[s] = passing[node[s]];
        nodes = book.leaf_begin[l];
    }
    return book;
}

std::vector<SymbolRecord> symbol_records(const CodeBook& book, const std::vector<u64>& counts) {
    std::vector<SymbolRecord> out;
    out.reserve(counts.size());
    u64 first = 0;
    for (std::size_t s = 0; s < counts.size(); ++s) {
        out.push_back({book.codes[s], static_cast<i64>(first - book.leaf_start[s])});
        first += counts[s];
    }
    return out;
}

}  // namespace gemkr
