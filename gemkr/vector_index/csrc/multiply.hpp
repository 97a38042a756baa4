// MaxSim of coded tokens by products of bytes, for processors that add four of them to a sum in one instruction (AVX512_VNNI): residuals
// become numbers of 0 to 255, query vectors numbers of -127 to 127 in a step of their own.
#pragma once

#include "scan.hpp"

namespace gemkr {

constexpr std::size_t HALVES = 2 * ENTRIES;  // values of a byte's low half, and of its high one
constexpr std::size_t COLUMNS = 32;          // bytes of a residual that are decoded together
constexpr std::size_t QUAD = 4;              // numbers that are multiplied together

// One query. A byte holds `planes` numbers (4, 2, 1); a token's are decoded plane after plane, each filled up to a multiple of 32 bytes.
struct ByteQuery {
    const std::int8_t* vectors;   // [groups, planes * columns / 4, 32, 4], filled up with zeros
    const std::uint8_t* values;   // [planes, 2, 16]: the low half's and the high half's value of a byte add up to a plane's number
    const std::int16_t* weights;  // [groups * 32]: the vector's steps in a step of the levels of centroids
    const float* steps;           // [vectors]
    std::size_t planes, columns;
    float low;  // the score of what is asked for where all sums are 0
};

}  // namespace gemkr
