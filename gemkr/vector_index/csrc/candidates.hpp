// Which documents a query may want, in three steps that cost more and see more: documents in the inverted lists of centroids next to
// the query's vectors; MaxSim with the centroids of all their tokens; MaxSim with the decoded tokens that can be a vector's best.
#pragma once

#include "maxsim.hpp"

namespace gemkr {

// Inverted lists: the documents of centroid c are docs[offsets[c]] to docs[offsets[c + 1]], each once.
struct Lists {
    const std::int64_t* offsets;
    const std::uint32_t* docs;
    std::size_t centroids;
};

struct Found {
    std::vector<std::int64_t> docs;
    std::vector<float> gains;
};

// For every query vector the documents of its probed centroids gain what their best one scores above the vector's floor.
// probes int64[vectors, p] are centroids, best first, -1 for none; gains float32[vectors, p].
inline Found gather(const Lists& lists, const std::int64_t* probes, const float* gains, std::size_t vectors, std::size_t p,
                    std::size_t documents, const std::uint8_t* allowed) {
    std::vector<float> sums(documents, 0.0F);
    std::vector<std::uint32_t> seen(documents, 0);
    Found found;
    for (std::size_t v = 0; v < vectors; ++v) {
        const auto now = static_cast<std::uint32_t>(v + 1);
        for (std::size_t i = 0; i < p; ++i) {
            const std::int64_t centroid = probes[v * p + i];
            if (centroid < 0) continue;
            const float gain = gains[v * p + i];
            for (std::int64_t at = lists.offsets[centroid]; at < lists.offsets[centroid + 1]; ++at) {
                const std::uint32_t doc = lists.docs[at];
                if (seen[doc] == now || (allowed && !allowed[doc])) continue;
                if (seen[doc] == 0) found.docs.push_back(doc);
                seen[doc] = now;
                sums[doc] += gain;
            }
        }
    }
    found.gains.reserve(found.docs.size());
    for (const std::int64_t doc : found.docs) found.gains.push_back(sums[static_cast<std::size_t>(doc)]);
    return found;
}

struct Probe {
    float product;
    std::int64_t centroid;
    bool operator<(const Probe& other) const {  // the better one first
        return product != other.product ? product > other.product : centroid < other.centroid;
    }
};

// The p centroids with the best products with each vector, best first, ties to the smaller number: [vectors, p]. `products` float32
// [centroids, stride], p at most the number of centroids.
inline std::vector<Probe> best_centroids(const float* products, std::size_t centroids, std::size_t stride, std::size_t vectors,
                                         std::size_t p) {
    std::vector<Probe> heaps(vectors * p);  // of each vector, its worst one in front
    std::vector<float> floors(vectors, NONE);
    for (std::size_t c = 0; c < centroids; ++c)
        for (std::size_t v = 0; v < vectors; ++v) {
            const float product = products[c * stride + v];
            if (c >= p && product <= floors[v]) continue;
            const auto heap = heaps.begin() + static_cast<std::ptrdiff_t>(v * p);
            const auto held = static_cast<std::ptrdiff_t>(std::min(c, p));
            if (c >= p) std::pop_heap(heap, heap + held);
            const std::ptrdiff_t full = std::min<std::ptrdiff_t>(held + 1, static_cast<std::ptrdiff_t>(p));
            heap[full - 1] = {product, static_cast<std::int64_t>(c)};
            std::push_heap(heap, heap + full);
            if (c + 1 >= p) floors[v] = heap->product;
        }
    for (std::size_t v = 0; v < vectors; ++v)
        std::sort_heap(heaps.begin() + static_cast<std::ptrdiff_t>(v * p), heaps.begin() + static_cast<std::ptrdiff_t>((v + 1) * p));
    return heaps;
}

struct Levels {
    using Bytes = std::uint8_t __attribute__((vector_size(GROUP)));
    Bytes x;
    static GEMKR_INLINE Levels load(const std::uint8_t* from) {
        Levels levels;
        std::memcpy(&levels.x, from, sizeof levels.x);
        return levels;
    }
};

// Numbers as 0 to 255: `to` is the number of steps above `low`, the least one. n is at least 1; all are finite.
GEMKR_FOR_EVERY_CPU
inline void levels_of(const float* from, std::size_t n, std::uint8_t* to, float& low, float& step) {
    float least = from[0], most = from[0];
    for (std::size_t i = 0; i < n; ++i) {
        least = from[i] < least ? from[i] : least;
        most = from[i] > most ? from[i] : most;
    }
    low = least;
    step = most > least ? (most - least) / 255 : 1;
    const float each = 1 / step;
    for (std::size_t i = 0; i < n; ++i) {
        const float level = (from[i] - least) * each + 0.5F;
        to[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(level < 255 ? level : 255));
    }
}

// Products of centroids and one query's vectors, filled up to groups of 32, as numbers of 0 to 255 that rise with them.
struct Scores {
    const std::uint8_t* levels;  // [centroids, groups * 32]
    std::size_t groups, vectors;
    float low, step;  // level 0 is the product `low`, each more is a `step`
    GEMKR_INLINE Levels row(std::size_t centroid, std::size_t group) const {
        return Levels::load(levels + (centroid * groups + group) * GROUP);
    }
};

struct Codes {
    const std::uint16_t* centroids;  // [tokens]
    const std::int64_t* offsets;     // document j has the tokens offsets[j] to offsets[j + 1]
    GEMKR_INLINE Levels best(const Scores& scores, std::size_t group, std::int64_t start, std::int64_t stop) const {
        Levels best{};
        for (std::int64_t t = start; t < stop; ++t) {
            const Levels row = scores.row(centroids[t], group);
            best.x = row.x > best.x ? row.x : best.x;
        }
        return best;
    }
};

// out[j]: MaxSim of the query's vectors and the centroids of document docs[j]; -inf for a document without a token.
GEMKR_FOR_EVERY_CPU
inline void score_centroids(const Scores& scores, const Codes& codes, const std::int64_t* docs, std::size_t m, float* out) {
    for (std::size_t j = 0; j < m; ++j) {
        const std::int64_t start = codes.offsets[docs[j]], stop = codes.offsets[docs[j] + 1];
        std::uint32_t sum = 0;
        for (std::size_t g = 0; g < scores.groups; ++g) {
            const Levels best = codes.best(scores, g, start, stop);
            std::uint8_t each[GROUP];
            std::memcpy(each, &best.x, GROUP);
            for (std::size_t v = g * GROUP; v < std::min((g + 1) * GROUP, scores.vectors); ++v) sum += each[v % GROUP];
        }
        const float low = scores.low * static_cast<float>(scores.vectors);
        out[j] = start < stop ? low + scores.step * static_cast<float>(sum) : NONE;
    }
}

template <class Half, class Whole>
GEMKR_INLINE void halve(const Whole& whole, Half& sums) {
    static_assert(sizeof(Whole) == 2 * sizeof(Half));
    Half halves[2];
    std::memcpy(halves, &whole, sizeof whole);
    sums = halves[0] + halves[1];
}

GEMKR_INLINE float dot(const float* left, const float* right, std::size_t width) {
    using Eight = float __attribute__((vector_size(32)));
    using Four = float __attribute__((vector_size(16)));
    Lane::Floats sums = {};
    std::size_t d = 0;
    for (; d + LANE <= width; d += LANE) sums += Lane::load(left + d).x * Lane::load(right + d).x;
    Eight eight;
    Four four;
    halve(sums, eight);
    halve(eight, four);
    float sum = (four[0] + four[2]) + (four[1] + four[3]);
    for (; d < width; ++d) sum += left[d] * right[d];
    return sum;
}

// What the residual of a token adds to its centroid's products.
struct Residuals {
    const std::uint8_t* codes;  // [tokens, bytes]
    const float* table;         // [256, width / bytes]: the levels in a byte, lowest bits first
    std::size_t width, bytes;
    const float* scaled;  // [vectors, width]: the query vectors times the scales of residuals
    GEMKR_INLINE void read(std::int64_t token, float* to) const {
        expand(codes + static_cast<std::size_t>(token) * bytes, bytes, table, width / bytes, to);
    }
};

// A token and a query vector that it may be the best one of.
struct Pair {
    std::uint32_t vector, slot;  // slot: of the tokens that are decoded
    float product;               // of the vector and the token's centroid
};

// The vectors that a token's centroid is near the document's best one of, as pairs; how many there are now.
GEMKR_INLINE std::size_t near_pairs(const Scores& scores, std::size_t centroid, const std::uint8_t* floors, std::size_t slot,
                                    std::vector<Pair>& pairs, std::size_t n) {
    if (pairs.size() < n + scores.vectors) pairs.resize(2 * (n + scores.vectors));
    Pair* const to = pairs.data();
    const float low = scores.low, step = scores.step;
    const std::size_t vectors = scores.vectors;
    for (std::size_t g = 0; g < scores.groups; ++g) {
        const Levels row = scores.row(centroid, g);
        const auto near = row.x >= Levels::load(floors + g * GROUP).x;  // all bits of a byte, or none
        std::uint64_t words[GROUP / 8];
        std::memcpy(words, &near, sizeof words);
        const std::uint8_t* levels = scores.levels + (centroid * scores.groups + g) * GROUP;
        for (std::size_t w = 0; w < GROUP / 8; ++w)
            for (std::uint64_t bits = words[w] & 0x0101010101010101U; bits != 0; bits &= bits - 1) {
                const std::size_t lane = w * 8 + static_cast<std::size_t>(__builtin_ctzll(bits)) / 8, v = g * GROUP + lane;
                if (v < vectors)
                    to[n++] = {static_cast<std::uint32_t>(v), static_cast<std::uint32_t>(slot),
                               low + step * static_cast<float>(levels[lane])};
            }
    }
    return n;
}

// out[j]: MaxSim of the query and the decoded tokens of document docs[j] (not brought to length 1), where a vector looks only at tokens
// whose level is at most margins[vector] below its best one in the document; -inf for a document without a token.
GEMKR_FOR_EVERY_CPU
inline void score_near(const Scores& scores, const Codes& codes, const Residuals& residuals, const std::uint8_t* margins,
                       const std::int64_t* docs, std::size_t m, float* out) {
    const std::size_t width = residuals.width;
    std::vector<std::uint8_t> floors(scores.groups * GROUP);
    std::vector<Pair> pairs;
    std::vector<std::int64_t> chosen;
    std::vector<float> tokens, best(scores.vectors);
    for (std::size_t j = 0; j < m; ++j) {
        const std::int64_t start = codes.offsets[docs[j]], stop = codes.offsets[docs[j] + 1];
        for (std::size_t g = 0; g < scores.groups; ++g) {
            const Levels most = codes.best(scores, g, start, stop), margin = Levels::load(margins + g * GROUP);
            const Levels::Bytes floor = most.x - (most.x < margin.x ? most.x : margin.x);
            std::memcpy(floors.data() + g * GROUP, &floor, sizeof floor);
        }
        chosen.clear();
        std::size_t n = 0;
        for (std::int64_t t = start; t < stop; ++t) {
            const std::size_t more = near_pairs(scores, codes.centroids[t], floors.data(), chosen.size(), pairs, n);
            if (more > n) chosen.push_back(t);
            n = more;
        }
        if (tokens.size() < chosen.size() * width) tokens.resize(chosen.size() * width);
        for (std::size_t i = 0; i < chosen.size(); ++i) residuals.read(chosen[i], tokens.data() + i * width);
        std::fill(best.begin(), best.end(), NONE);
        for (std::size_t i = 0; i < n; ++i) {
            const Pair& pair = pairs[i];
            const float score = pair.product + dot(residuals.scaled + pair.vector * width, tokens.data() + pair.slot * width, width);
            best[pair.vector] = std::max(best[pair.vector], score);
        }
        float sum = start < stop ? 0 : NONE;
        for (std::size_t v = 0; start < stop && v < scores.vectors; ++v) sum += best[v];
        out[j] = sum;
    }
}

}  // namespace gemkr
