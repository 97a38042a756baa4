// MaxSim kernels against plain loops, over arrays of exactly the sizes they are told: fuzz_maxsim SECONDS SEED prints the rounds done.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "candidates.hpp"

using namespace gemkr;

namespace {

std::mt19937_64 engine;

std::size_t upto(std::size_t most) { return std::uniform_int_distribution<std::size_t>(0, most)(engine); }

std::vector<float> floats(std::size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> found(n);
    for (float& x : found) x = normal(engine);
    return found;
}

void check(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "%s\n", what);
        std::exit(1);
    }
}

float best(const std::vector<float>& tokens, std::size_t start, std::size_t stop, const float* query, std::size_t width) {
    float most = NONE;
    for (std::size_t t = start; t < stop; ++t) {
        float sum = 0;
        for (std::size_t d = 0; d < width; ++d) sum += tokens[t * width + d] * query[d];
        most = std::max(most, sum);
    }
    return most;
}

bool near(float a, float b) { return a == b || std::fabs(a - b) < 2e-3F * (1 + std::fabs(b)); }

void round_of() {
    const std::size_t each = std::size_t{1} << upto(2), bytes = 1 + upto(9), width = each * bytes, bits = 8 / each;
    std::vector<std::int64_t> offsets{0};
    for (std::size_t j = upto(6); j-- > 0;) offsets.push_back(offsets.back() + static_cast<std::int64_t>(upto(60)));
    const auto tokens = static_cast<std::size_t>(offsets.back()), documents = offsets.size() - 1, centres = 1 + upto(5);
    const std::vector<float> centroids = floats(centres * width), scales = floats(width), levels = floats(std::size_t{1} << bits);
    std::vector<float> table(256 * each);
    for (std::size_t b = 0; b < 256; ++b)
        for (std::size_t i = 0; i < each; ++i) table[b * each + i] = levels[(b >> (i * bits)) & (levels.size() - 1)];
    std::vector<std::uint16_t> codes(tokens);
    std::vector<std::uint8_t> residuals(tokens * bytes);
    for (auto& code : codes) code = static_cast<std::uint16_t>(upto(centres - 1));
    for (auto& byte : residuals) byte = static_cast<std::uint8_t>(upto(255));
    std::vector<float> decoded(tokens * width);
    const bool unit = upto(1) == 1;
    for (std::size_t t = 0; t < tokens; ++t) {
        float square = 0;
        for (std::size_t d = 0; d < width; ++d) {
            float& x = decoded[t * width + d];
            x = centroids[codes[t] * width + d] + scales[d] * table[residuals[t * bytes + d / each] * each + d % each];
            square += x * x;
        }
        for (std::size_t d = 0; unit && d < width; ++d) decoded[t * width + d] *= square > 0 ? 1 / std::sqrt(square) : 0;
    }
    std::vector<std::int64_t> docs, bounds{0};
    for (std::size_t m = documents ? upto(8) : 0; m-- > 0;) docs.push_back(static_cast<std::int64_t>(upto(documents - 1)));
    for (std::size_t q = upto(3); q-- > 0;) bounds.push_back(bounds.back() + static_cast<std::int64_t>(upto(40)));
    const auto vectors = static_cast<std::size_t>(bounds.back()), n = bounds.size() - 1;
    const std::vector<float> queries = floats(vectors * width), groups = packed(queries.data(), vectors, width);
    std::vector<float> out(n * docs.size());
    const Coded source{codes.data(), residuals.data(), centroids.data(), table.data(), scales.data(), width, bytes, unit};
    score_coded(source, offsets.data(), docs.data(), docs.size(), Queries{groups.data(), vectors, bounds.data(), n}, out.data());
    const std::size_t row = (vectors + GROUP - 1) / GROUP * GROUP;
    std::vector<float> products(centres * row, 5.0F), scaled(vectors * width), by_centre(docs.size()), near_best(docs.size());
    for (std::size_t c = 0; c < centres; ++c)
        for (std::size_t v = 0; v < vectors; ++v) products[c * row + v] = best(centroids, c, c + 1, queries.data() + v * width, width);
    for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] = queries[i] * scales[i % width];
    std::vector<std::uint8_t> heights(products.size()), margins(row);
    for (auto& margin : margins) margin = static_cast<std::uint8_t>(upto(255));
    Scores scores{heights.data(), row / GROUP, vectors, 0, 1};
    if (!products.empty()) levels_of(products.data(), products.size(), heights.data(), scores.low, scores.step);
    const Codes held{codes.data(), offsets.data()};
    const Residuals rest{residuals.data(), table.data(), width, bytes, scaled.data()};
    score_centroids(scores, held, docs.data(), docs.size(), by_centre.data());
    score_near(scores, held, rest, margins.data(), docs.data(), docs.size(), near_best.data());
    const std::size_t p = 1 + upto(centres - 1);
    const std::vector<Probe> probes = best_centroids(products.data(), centres, row, vectors, p);
    for (std::size_t i = 0; i < probes.size(); ++i) {
        std::size_t better = 0;
        for (std::size_t c = 0; c < centres; ++c) better += Probe{products[c * row + i / p], static_cast<std::int64_t>(c)} < probes[i];
        check(better == i % p, "best_centroids");
    }
    for (std::size_t j = 0; j < docs.size(); ++j) {
        const auto start = static_cast<std::size_t>(offsets[static_cast<std::size_t>(docs[j])]);
        const auto stop = static_cast<std::size_t>(offsets[static_cast<std::size_t>(docs[j]) + 1]);
        for (std::size_t q = 0; q < n; ++q) {
            float sum = start < stop ? 0 : NONE;
            for (std::int64_t v = bounds[q]; start < stop && v < bounds[q + 1]; ++v)
                sum += best(decoded, start, stop, queries.data() + static_cast<std::size_t>(v) * width, width);
            check(near(out[q * docs.size() + j], sum), "score_coded");
        }
        float sum = start < stop ? 0 : NONE, close = sum;
        for (std::size_t v = 0; start < stop && v < vectors; ++v) {
            std::uint8_t top = 0;
            for (std::size_t t = start; t < stop; ++t) top = std::max(top, heights[codes[t] * row + v]);
            float most = NONE;
            for (std::size_t t = start; t < stop; ++t) {
                const std::uint8_t level = heights[codes[t] * row + v];
                if (level + margins[v] < top) continue;
                float score = scores.low + scores.step * static_cast<float>(level);
                for (std::size_t d = 0; d < width; ++d)
                    score += scaled[v * width + d] * table[residuals[t * bytes + d / each] * each + d % each];
                most = std::max(most, score);
            }
            sum += scores.low + scores.step * static_cast<float>(top);
            close += most;
        }
        check(near(near_best[j], close), "score_near");
        check(near(by_centre[j], sum), "score_centroids");
    }
}

}  // namespace

int main(int, char** argv) {
    const double seconds = std::atof(argv[1]);
    engine.seed(static_cast<std::uint64_t>(std::atoll(argv[2])));
    const auto began = std::chrono::steady_clock::now();
    long rounds = 0;
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() < seconds) {
        round_of();
        ++rounds;
    }
    std::printf("%ld\n", rounds);
}
