// MaxSim kernels against plain loops, over arrays of exactly the sizes they are told: fuzz_maxsim SECONDS SEED prints the rounds done.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "every_cpu.hpp"

using namespace gemkr;

namespace {

std::mt19937_64 engine;
const char* kernels_in_use = "";

std::size_t upto(std::size_t most) { return std::uniform_int_distribution<std::size_t>(0, most)(engine); }

std::vector<float> floats(std::size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> found(n);
    for (float& x : found) x = normal(engine);
    return found;
}

void check(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "%s of the %s kernels\n", what, kernels_in_use);
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

// The kernels for one kind of processor.
struct Kernels {
    const char* name;
    decltype(&plain::score_coded) coded;
    decltype(&plain::levels_of) levels;
    decltype(&plain::score_centroids) centroids;
    decltype(&plain::score_scanned) scanned;
    decltype(&plain::score_multiplied) multiplied;
};

// A query of bytes over residuals of `bytes`, each of `planes` numbers, whatever it says.
struct DrawnBytes {
    std::size_t planes, columns;
    std::vector<std::int8_t> vectors;
    std::vector<std::uint8_t> values;
    std::vector<std::int16_t> weights;

    DrawnBytes(std::size_t planes, std::size_t bytes, std::size_t row)
        : planes(planes), columns((bytes + COLUMNS - 1) / COLUMNS * COLUMNS), vectors(row * planes * columns), values(planes * HALVES),
          weights(row) {
        for (auto& x : vectors) x = static_cast<std::int8_t>(static_cast<int>(upto(254)) - 127);
        for (auto& x : values) x = static_cast<std::uint8_t>(upto(127));
        for (auto& x : weights) x = static_cast<std::int16_t>(upto(32767));
    }

    // The number of vector v that stands for byte c of a plane.
    std::int32_t at(std::size_t v, std::size_t p, std::size_t c) const {
        const std::size_t quad = (p * columns + c) / QUAD, quads = planes * columns / QUAD;
        return vectors[((v / GROUP * quads + quad) * GROUP + v % GROUP) * QUAD + c % QUAD];
    }

    std::int32_t number(std::size_t p, std::uint8_t byte) const {
        const std::int32_t low = values[p * HALVES + (byte & 15)], high = values[p * HALVES + ENTRIES + (byte >> 4)];
        return planes == 1 ? low + high : 2 * p < planes ? low : high;
    }
};

void round_of(const Kernels& kernels) {
    const std::size_t each = std::size_t{1} << upto(2), bytes = 1 + upto(9), width = each * bytes, bits = 8 / each;
    std::vector<std::int64_t> offsets{0};
    for (std::size_t j = upto(6); j-- > 0;) offsets.push_back(offsets.back() + static_cast<std::int64_t>(upto(140)));
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
    kernels.coded(source, offsets.data(), docs.data(), docs.size(), Queries{groups.data(), vectors, bounds.data(), n}, out.data());
    const std::size_t row = (vectors + GROUP - 1) / GROUP * GROUP;
    std::vector<float> products(centres * row, 5.0F), by_tables(docs.size());
    for (std::size_t c = 0; c < centres; ++c)
        for (std::size_t v = 0; v < vectors; ++v) products[c * row + v] = best(centroids, c, c + 1, queries.data() + v * width, width);
    std::vector<std::uint8_t> heights(products.size());
    Scores scores{heights.data(), row / GROUP, vectors, 0, 1};
    if (!products.empty()) kernels.levels(products.data(), products.size(), heights.data(), scores.low, scores.step);
    const std::size_t filled = (vectors + 1) / 2 * 2, halves = (2 * bytes + 7) / 8 * 8;
    std::vector<std::uint8_t> entries(filled * halves * 16);
    std::vector<std::uint16_t> weights(filled);
    const std::vector<float> steps = floats(vectors);
    for (auto& entry : entries) entry = static_cast<std::uint8_t>(upto(31));
    for (auto& weight : weights) weight = static_cast<std::uint16_t>(upto(32000));
    const Codes held{codes.data(), offsets.data()};
    const Tables tables{entries.data(), weights.data(), steps.data(), filled, halves, 0.5F};
    std::vector<float> by_centre(n * docs.size());
    kernels.centroids(scores, held, bounds.data(), n, docs.data(), docs.size(), by_centre.data());
    const std::size_t last = upto(vectors), some = last / 2 * 2, side = last / 16 * 16;  // from one of these on
    const std::size_t even = upto(some / 2) * 2, whole = upto(side / 16) * 16;
    kernels.scanned(scores, held, Residuals{residuals.data(), bytes}, tables, even, last, docs.data(), docs.size(), by_tables.data());
    DrawnBytes drawn(each, bytes, row);
    for (std::size_t p = 0; p < each; ++p)  // as Python fills up
        for (std::size_t c = bytes; c < drawn.columns; ++c)
            for (std::size_t v = 0; v < row; ++v)
                drawn.vectors[((v / GROUP * (each * drawn.columns / QUAD) + (p * drawn.columns + c) / QUAD) * GROUP + v % GROUP) * QUAD + c % QUAD] = 0;
    std::vector<float> by_bytes(docs.size());
    std::vector<std::int32_t> vectors_of_bytes(vectors * width), numbers(tokens * width);
    for (std::size_t i = 0; i < vectors_of_bytes.size(); ++i) vectors_of_bytes[i] = drawn.at(i / width, i % width / bytes, i % bytes);
    for (std::size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = drawn.number(i % width / bytes, residuals[i / width * bytes + i % bytes]);
    const ByteQuery query{drawn.vectors.data(), drawn.values.data(), drawn.weights.data(), steps.data(), each, drawn.columns, 0.25F};
    kernels.multiplied(scores, held, Residuals{residuals.data(), bytes}, query, whole, last, docs.data(), docs.size(), by_bytes.data());
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
        float looked = start < stop ? tables.low : NONE, multiplied = start < stop ? query.low : NONE;
        std::vector<float> sums(n, start < stop ? 0 : NONE);
        for (std::size_t v = 0; start < stop && v < vectors; ++v) {
            std::uint32_t top = 0, most = 0;
            std::int32_t highest = std::numeric_limits<std::int32_t>::min();
            for (std::size_t t = start; t < stop; ++t) {
                const std::uint32_t level = heights[codes[t] * row + v];
                std::uint32_t total = level * weights[v] >> 8;
                for (std::size_t h = 0; h < 2 * bytes; ++h) {
                    const std::uint32_t half = residuals[t * bytes + h / 2] >> (h % 2 * 4) & 15;
                    total += entries[((v / 2 * halves + h) * 2 + v % 2) * 16 + half];
                }
                for (std::size_t h = 2 * bytes; h < halves; ++h) total += entries[((v / 2 * halves + h) * 2 + v % 2) * 16];
                top = std::max(top, level);
                most = std::max(most, total);
                std::int32_t product = static_cast<std::int32_t>(level) * drawn.weights[v];
                for (std::size_t i = 0; i < width; ++i) product += vectors_of_bytes[v * width + i] * numbers[t * width + i];
                highest = std::max(highest, product);
            }
            if (v >= whole && v < last) multiplied += steps[v] * static_cast<float>(highest);
            if (v >= even && v < last) looked += steps[v] * static_cast<float>(most);
            const auto part = static_cast<std::size_t>(std::upper_bound(bounds.begin(), bounds.end(), static_cast<std::int64_t>(v)) - bounds.begin()) - 1;
            sums[part] += scores.low + scores.step * static_cast<float>(top);
        }
        check(near(by_tables[j], looked), "score_scanned");
        check(near(by_bytes[j], multiplied), "score_multiplied");
        for (std::size_t q = 0; q < n; ++q) check(near(by_centre[q * docs.size() + j], sums[q]), "score_centroids");
    }
}

}  // namespace

int main(int, char** argv) {
    const double seconds = std::atof(argv[1]);
    engine.seed(static_cast<std::uint64_t>(std::atoll(argv[2])));
    const auto began = std::chrono::steady_clock::now();
    long rounds = 0;
    std::vector<Kernels> each{{"plain", plain::score_coded, plain::levels_of, plain::score_centroids, plain::score_scanned,
                               plain::score_multiplied}};
#ifdef GEMKR_SEVERAL_CPUS
    if (this_cpu() >= Cpu::AVX2)
        each.push_back({"avx2", avx2::score_coded, avx2::levels_of, avx2::score_centroids, avx2::score_scanned, plain::score_multiplied});
    if (this_cpu() >= Cpu::AVX512)
        each.push_back({"avx512", avx512::score_coded, avx512::levels_of, avx512::score_centroids, avx512::score_scanned,
                        multiplies_bytes() ? vnni::score_multiplied : plain::score_multiplied});
#endif
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() < seconds) {
        kernels_in_use = each[static_cast<std::size_t>(rounds) % each.size()].name;
        round_of(each[static_cast<std::size_t>(rounds) % each.size()]);
        ++rounds;
    }
    std::printf("%ld\n", rounds);
}
