// What a query sees of an index: pointers into its sections and the few numbers of the header.
//
// The text is every document reversed and closed by a separator (symbol 0), so the transform at rows [lo, hi) of a
// pattern holds the tokens that may follow it. Symbols are the used tokens, numbered 1.. in the order of their ids.
// All numbers here were checked when the view was made; what the pointers point at was not, so every reader
// clamps what it read before it uses it as a place.
#pragma once

#include "common.hpp"

namespace gemkr {

// Layout of a wavelet level: lines of 64 bytes, 224 digits (0..3) each. Word 0 holds four 16-bit counts of the
// digits between the last superblock and this line; words 1, 3, 5 the low and 2, 4, 6 the high bits of 64 digits
// each, word 7 the low bits (lower half) and high bits (upper half) of the last 32.
constexpr u64 LINE_DIGITS = 224;
constexpr u64 LINE_WORDS = 8;
constexpr u64 SUPER_LINES = 256;
constexpr unsigned MAX_LEVELS = 29;

// Layout of a line of marks: word 0 counts the set bits before the line, words 1..7 hold 448 bits.
constexpr u64 MARK_BITS = 448;

constexpr u32 NO_TOKEN = ~u32{0};

struct SymbolRecord {
    u64 code;   // digit of level l at bits 2l, number of digits at bits 58..63
    i64 delta;  // row of the suffix array minus position below the last digit
};

struct Level {
    const u64* lines = nullptr;
    const u64* supers = nullptr;  // four per superblock: digits below plus equal digits before
    u64 length = 0;
    u64 next_length = 0;
    u64 nodes = 0;       // inner nodes of this level
    u64 leaf_begin = 0;  // child number from which children are leaves; the number of inner nodes below
    const u32* leaves = nullptr;
};

struct View {
    u64 n_rows = 0, n_tokens = 0, n_docs = 0, vocab_size = 0, sigma = 0, sample_rate = 1;
    unsigned row_bits = 0, sample_bits = 0, doc_bits = 0, id_bits = 0;
    unsigned level_count = 0;
    Level levels[MAX_LEVELS];
    const u32* alphabet = nullptr;  // token -> symbol, 0 where the corpus does not hold the token
    const u32* tokens = nullptr;    // symbol -> token
    const SymbolRecord* symbols = nullptr;
    // precomputed successor lists
    u64 context_count = 0;
    unsigned context_shift = 0, context_offset_bits = 0;
    const u32* context_buckets = nullptr;
    const u8* context_entries = nullptr;
    const u8* lists = nullptr;
    u64 lists_size = 0;  // without the spare bytes
    // locate
    const u64* marks = nullptr;
    const u8* samples = nullptr;
    u64 sample_count = 0;
    const u8* starts = nullptr;     // position of each document in the text, and the text's length
    const u8* ends = nullptr;       // k-th separator of the transform -> document that ends there
    const u8* doc_array = nullptr;  // row -> document, or null

    u64 level_lines(unsigned level) const { return levels[level].length / LINE_DIGITS + 1; }
};

}  // namespace gemkr
