// Quaternary Huffman codes in the order that a wavelet matrix needs: on every level, the codes that end are the
// last ones, so what goes on stays in one piece.
#pragma once

#include <vector>

#include "view.hpp"

namespace gemkr {

struct CodeBook {
    std::vector<u64> codes;       // per symbol: digits and length as in SymbolRecord::code
    std::vector<u64> leaf_start;  // per symbol: position of its first occurrence below its last digit
    std::vector<u32> leaves;      // symbols of the leaves, level by level; NO_TOKEN fills up
    std::vector<u64> lengths;     // per level: digits
    std::vector<u64> leaf_begin;  // per level
};

// Symbols that do not occur get codes all the same. Deterministic.
CodeBook make_codes(const std::vector<u64>& counts);

// Code and delta of every symbol, as queries read them.
std::vector<SymbolRecord> symbol_records(const CodeBook& book, const std::vector<u64>& counts);

}  // namespace gemkr
