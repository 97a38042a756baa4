// MaxSim: for each vector of a query the best inner product with a document's token vectors, summed over the query's vectors.
//
// Token vectors come from a store of float16 values, or are decoded from a centroid and residual codes; either way a few of them at a
// time are widened to float32 and multiplied with all query vectors, and only the maxima are kept.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define GEMKR_FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GEMKR_FOR_EVERY_CPU
#endif
#define GEMKR_INLINE inline __attribute__((always_inline))

namespace gemkr {

constexpr std::size_t LANE = 16, GROUP = 2 * LANE;  // floats of a lane; query vectors that are multiplied together
constexpr std::size_t TILE = 3, BLOCK = 48;         // tokens that are multiplied together; that are widened together
constexpr float NONE = -std::numeric_limits<float>::infinity();

struct Lane {
    using Floats = float __attribute__((vector_size(4 * LANE)));
    Floats x;
    static GEMKR_INLINE Lane load(const float* from) {
        Lane lane;
        std::memcpy(&lane.x, from, sizeof lane.x);
        return lane;
    }
};

// Query vectors in groups of 32, for each group number after number: [groups][width][32], filled up with zeros.
inline std::vector<float> packed(const float* queries, std::size_t n, std::size_t width) {
    const std::size_t groups = (n + GROUP - 1) / GROUP;
    std::vector<float> to(groups * width * GROUP, 0.0F);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t d = 0; d < width; ++d)
            to[((i / GROUP) * width + d) * GROUP + i % GROUP] = queries[i * width + d];
    return to;
}

// A finite float16 as float32: exponent and fraction are moved to their places, and the exponent's bias is multiplied in.
GEMKR_INLINE void widen(const std::uint16_t* from, float* to, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t half = from[i];
        const std::uint32_t bits = (half & 0x7fffU) << 13;
        float size;
        std::memcpy(&size, &bits, 4);
        size *= 0x1p112F;
        std::uint32_t out;
        std::memcpy(&out, &size, 4);
        out |= (half & 0x8000U) << 16;
        std::memcpy(to + i, &out, 4);
    }
}

struct Stored {
    const std::uint16_t* values;  // float16[tokens, width]
    std::size_t width;
    GEMKR_INLINE void read(std::int64_t first, std::size_t n, float* to) const {
        widen(values + static_cast<std::size_t>(first) * width, to, n * width);
    }
};

// The levels that n bytes name, `each` of a byte: table [256, each]. Everything is a local, as what is written could be a member's.
GEMKR_INLINE void expand(const std::uint8_t* from, std::size_t n, const float* table, std::size_t each, float* to) {
    if (each == 4)
        for (std::size_t j = 0; j < n; ++j) std::memcpy(to + 4 * j, table + 4 * from[j], 16);
    else if (each == 2)
        for (std::size_t j = 0; j < n; ++j) std::memcpy(to + 2 * j, table + 2 * from[j], 8);
    else
        for (std::size_t j = 0; j < n; ++j) to[j] = table[from[j]];
}

// A token is its centroid plus, for each number, scale * the level that its code names; of length 1 where `unit`.
struct Coded {
    const std::uint16_t* codes;     // [tokens]: the centroid of each
    const std::uint8_t* residuals;  // [tokens, width * bits / 8]
    const float* centroids;         // [centroids, width]
    const float* table;             // [256, 8 / bits]: the levels in a byte, lowest bits first
    const float* scales;            // [width]
    std::size_t width, bytes;
    bool unit;
    GEMKR_INLINE void read(std::int64_t first, std::size_t n, float* to) const {
        const std::size_t start = static_cast<std::size_t>(first);
        expand(residuals + start * bytes, n * bytes, table, width / bytes, to);
        // in a second pass, as a processor waits where what was stored in parts is loaded whole at once
        for (std::size_t i = 0; i < n; ++i)
            place(centroids + static_cast<std::size_t>(codes[start + i]) * width, to + i * width);
    }
    GEMKR_INLINE void place(const float* centre, float* to) const {
        Lane::Floats squares = {};
        std::size_t d = 0;
        for (; d + LANE <= width; d += LANE) {
            const Lane::Floats whole = Lane::load(centre + d).x + Lane::load(scales + d).x * Lane::load(to + d).x;
            squares += whole * whole;
            std::memcpy(to + d, &whole, sizeof whole);
        }
        float square = 0;
        for (; d < width; ++d) {
            to[d] = centre[d] + scales[d] * to[d];
            square += to[d] * to[d];
        }
        if (!unit) return;
        for (std::size_t l = 0; l < LANE; ++l) square += squares[l];
        const float factor = square > 0 ? 1 / __builtin_sqrtf(square) : 0;
        for (d = 0; d < width; ++d) to[d] *= factor;
    }
};

template <std::size_t T>
GEMKR_INLINE void multiply(const float* tokens, const float* group, std::size_t width, Lane best[2]) {
    Lane::Floats sums[T][2] = {};
    for (std::size_t d = 0; d < width; ++d) {
        const Lane left = Lane::load(group + d * GROUP), right = Lane::load(group + d * GROUP + LANE);
        for (std::size_t t = 0; t < T; ++t) {
            const float number = tokens[t * width + d];
            sums[t][0] += number * left.x;
            sums[t][1] += number * right.x;
        }
    }
    for (std::size_t t = 0; t < T; ++t)
        for (std::size_t side = 0; side < 2; ++side)
            best[side].x = sums[t][side] > best[side].x ? sums[t][side] : best[side].x;
}

struct Queries {
    const float* packed;
    std::size_t vectors;
    const std::int64_t* bounds;  // query i has the vectors bounds[i] to bounds[i + 1]
    std::size_t n;
};

// out[i, j] of query i and document docs[j]; -inf for a document without a token.
template <class Source>
GEMKR_INLINE void score(const Source& source, const std::int64_t* offsets, const std::int64_t* docs, std::size_t m,
                        const Queries& queries, float* out) {
    const std::size_t width = source.width, groups = (queries.vectors + GROUP - 1) / GROUP;
    std::vector<float> tokens(BLOCK * width), maxima(groups * GROUP);
    for (std::size_t j = 0; j < m; ++j) {
        const std::int64_t start = offsets[docs[j]], stop = offsets[docs[j] + 1];
        std::fill(maxima.begin(), maxima.end(), NONE);
        for (std::int64_t first = start; first < stop; first += static_cast<std::int64_t>(BLOCK)) {
            const std::size_t here = std::min<std::size_t>(BLOCK, static_cast<std::size_t>(stop - first));
            source.read(first, here, tokens.data());
            for (std::size_t g = 0; g < groups; ++g) {
                const float* group = queries.packed + g * width * GROUP;
                float* to = maxima.data() + g * GROUP;
                Lane best[2] = {Lane::load(to), Lane::load(to + LANE)};
                std::size_t t = 0;
                for (; t + TILE <= here; t += TILE) multiply<TILE>(tokens.data() + t * width, group, width, best);
                for (; t < here; ++t) multiply<1>(tokens.data() + t * width, group, width, best);
                std::memcpy(to, &best[0].x, sizeof best[0].x);
                std::memcpy(to + LANE, &best[1].x, sizeof best[1].x);
            }
        }
        for (std::size_t i = 0; i < queries.n; ++i) {
            float sum = start < stop ? 0 : NONE;
            for (std::int64_t v = queries.bounds[i]; start < stop && v < queries.bounds[i + 1]; ++v)
                sum += maxima[static_cast<std::size_t>(v)];
            out[i * m + j] = sum;
        }
    }
}

GEMKR_FOR_EVERY_CPU
inline void score_stored(const Stored& source, const std::int64_t* offsets, const std::int64_t* docs, std::size_t m,
                         const Queries& queries, float* out) {
    score(source, offsets, docs, m, queries, out);
}

GEMKR_FOR_EVERY_CPU
inline void score_coded(const Coded& source, const std::int64_t* offsets, const std::int64_t* docs, std::size_t m,
                        const Queries& queries, float* out) {
    score(source, offsets, docs, m, queries, out);
}

}  // namespace gemkr
