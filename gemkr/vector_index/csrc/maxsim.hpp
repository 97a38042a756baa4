// MaxSim: for each vector of a query the best inner product with a document's token vectors, summed over the query's vectors.
//
// Token vectors come from a store of float16 values, or are decoded from a centroid and residual codes; either way a few of them at a
// time are widened to float32 and multiplied with all query vectors, and only the maxima are kept (`maxsim.inc`).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#define GEMKR_INLINE inline __attribute__((always_inline))

namespace gemkr {

constexpr std::size_t GROUP = 32;  // query vectors that are multiplied together
constexpr float NONE = -std::numeric_limits<float>::infinity();

// Query vectors in groups of 32, for each group number after number: [groups][width][32], filled up with zeros.
inline std::vector<float> packed(const float* queries, std::size_t n, std::size_t width) {
    const std::size_t groups = (n + GROUP - 1) / GROUP;
    std::vector<float> to(groups * width * GROUP, 0.0F);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t d = 0; d < width; ++d)
            to[((i / GROUP) * width + d) * GROUP + i % GROUP] = queries[i * width + d];
    return to;
}

struct Stored {
    const std::uint16_t* values;  // float16[tokens, width]
    std::size_t width;
};

// A token is its centroid plus, for each number, scale * the level that its code names; of length 1 where `unit`.
struct Coded {
    const std::uint16_t* codes;     // [tokens]: the centroid of each
    const std::uint8_t* residuals;  // [tokens, width * bits / 8]
    const float* centroids;         // [centroids, width]
    const float* table;             // [256, 8 / bits]: the levels in a byte, lowest bits first
    const float* scales;            // [width]
    std::size_t width, bytes;
    bool unit;
};

struct Queries {
    const float* packed;
    std::size_t vectors;
    const std::int64_t* bounds;  // query i has the vectors bounds[i] to bounds[i + 1]
    std::size_t n;
};

}  // namespace gemkr
