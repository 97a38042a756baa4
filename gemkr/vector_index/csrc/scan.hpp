// MaxSim of coded tokens by look-up tables (after PQ Fast Scan, André et al., VLDB 2015): what the four bits of half a byte of a residual
// add to the product with a query vector is one of 16 numbers of 0 to 255, which a processor looks up for 32 tokens at once.
#pragma once

#include "candidates.hpp"

namespace gemkr {

constexpr std::size_t TOKENS = 32, ENTRIES = 16;  // tokens that are looked up together; values of half a byte
constexpr std::size_t TOGETHER = 2;               // query vectors that share a look at the codes
constexpr std::size_t ADDED = 8;                  // halves whose entries are added before a byte could overflow

// One query. Vectors are filled up to a multiple of 2, halves of bytes (low, high, low, ...) to one of 8, both with zeros.
struct Tables {
    const std::uint8_t* entries;   // [vectors / 2, halves, 2, 16]: in steps of the vector's; 8 halves in a row add up to at most 255
    const std::uint16_t* weights;  // [vectors]: 256 times the vector's steps in a step of the levels of centroids
    const float* steps;            // [vectors]
    std::size_t vectors, halves;   // how many are filled up to
    float low;                     // the score of what is asked for where all entries and levels are 0
};

struct Residuals {
    const std::uint8_t* codes;  // [tokens, bytes]
    std::size_t bytes;
};

}  // namespace gemkr
