// Which documents a query may want: those in the inverted lists of centroids next to the query's vectors, and then those with the best
// MaxSim of the centroids of their tokens (`candidates.inc`).
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
    std::vector<float> floors(stride, -NONE);
    std::fill_n(floors.begin(), vectors, NONE);
    for (std::size_t c = 0; c < centroids; ++c) {
        int any = 0;  // few rows have one, and comparisons without branches are many at once
        for (std::size_t v = 0; v < stride; ++v) any |= products[c * stride + v] > floors[v];
        for (std::size_t v = 0; v < vectors && (any || c < p); ++v) {
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
    }
    for (std::size_t v = 0; v < vectors; ++v)
        std::sort_heap(heaps.begin() + static_cast<std::ptrdiff_t>(v * p), heaps.begin() + static_cast<std::ptrdiff_t>((v + 1) * p));
    return heaps;
}

// Products of centroids and one query's vectors, filled up to groups of 32, as numbers of 0 to 255 that rise with them.
struct Scores {
    const std::uint8_t* levels;  // [centroids, groups * 32]
    std::size_t groups, vectors;
    float low, step;  // level 0 is the product `low`, each more is a `step`
    GEMKR_INLINE const std::uint8_t* row(std::size_t centroid, std::size_t group) const {
        return levels + (centroid * groups + group) * GROUP;
    }
};

struct Codes {
    const std::uint16_t* centroids;  // [tokens]
    const std::int64_t* offsets;     // document j has the tokens offsets[j] to offsets[j + 1]
};

// Ask for what will be read soon: [first, last) of rows of a number of bytes.
GEMKR_INLINE void prefetch(const void* rows, std::size_t bytes, std::int64_t first, std::int64_t last) {
    const char* at = static_cast<const char*>(rows) + static_cast<std::size_t>(first) * bytes;
    const char* const end = static_cast<const char*>(rows) + static_cast<std::size_t>(last) * bytes;
    for (; at < end; at += 64) __builtin_prefetch(at);
}

}  // namespace gemkr
