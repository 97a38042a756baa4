// The SDSL 2 measurement of bench_fm_index.py: csa_wt_int over the reversed documents, as SEAL and GeMKR use it.
// Built only where libsdsl-dev is installed, never shipped.
//
// sdsl_peer TEXT STATES VOCAB: TEXT = uint32 symbols (tokens + 2, 1 between documents, no 0); STATES = uint32: number
// of lengths, states per length, then per length k: k, and the states of k symbols each. Prints JSON, times in
// microseconds.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <sdsl/suffix_arrays.hpp>

using Clock = std::chrono::steady_clock;
using Index = sdsl::csa_wt_int<sdsl::wt_int<>, 32, 64>;

static double micros(Clock::time_point from) {
    return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

static std::vector<std::uint32_t> read(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    std::vector<std::uint32_t> values(bytes.size() / 4);
    std::copy(bytes.begin(), bytes.begin() + values.size() * 4, reinterpret_cast<char*>(values.data()));
    return values;
}

static double quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1, static_cast<std::size_t>(share * values.size()))];
}

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const auto text = read(argv[1]);
    const auto states = read(argv[2]);
    const std::size_t words = (std::strtoul(argv[3], nullptr, 10) + 31) / 32;
    sdsl::int_vector<> symbols(text.size(), 0, 32);
    std::copy(text.begin(), text.end(), symbols.begin());
    Index index;
    auto from = Clock::now();
    const std::clock_t ticks = std::clock();
    sdsl::construct_im(index, symbols, 0);
    const double build = micros(from) / 1e6, cpu = static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC;
    std::printf("{\"build_s\": %.3f, \"build_cpu_s\": %.3f, \"bits_per_token\": %.3f", build, cpu, 8.0 * sdsl::size_in_bytes(index) / text.size());

    const auto& tree = index.wavelet_tree;
    std::vector<Index::value_type> found(index.sigma);
    std::vector<Index::size_type> rank_lo(index.sigma), rank_hi(index.sigma);
    std::vector<std::uint32_t> mask;
    std::size_t at = 2;
    for (std::uint32_t length = 0; length < states[0]; ++length) {
        const std::uint32_t k = states[at++], count = states[1];
        std::vector<std::pair<std::size_t, std::size_t>> rows;
        std::vector<double> steps, sets;
        for (std::uint32_t s = 0; s < count; ++s) {
            Index::size_type lo = 0, hi = index.size() - 1;
            for (std::uint32_t j = 0; j < k; ++j) {
                const auto begin = Clock::now();
                sdsl::backward_search(index, lo, hi, static_cast<Index::char_type>(states[at + s * k + j]), lo, hi);
                if (j + 1 == k) steps.push_back(micros(begin));
            }
            rows.emplace_back(lo, hi + 1);
        }
        for (const auto& [lo, hi] : rows) {
            Index::size_type different = 0;
            const auto begin = Clock::now();
            sdsl::interval_symbols(tree, lo, hi, different, found, rank_lo, rank_hi);
            sets.push_back(micros(begin));
        }
        mask.assign(words * count, 0);
        const auto begin = Clock::now();
        for (std::uint32_t s = 0; s < count; ++s) {
            Index::size_type different = 0;
            sdsl::interval_symbols(tree, rows[s].first, rows[s].second, different, found, rank_lo, rank_hi);
            for (Index::size_type j = 0; j < different; ++j)
                if (found[j] >= 2) mask[s * words + ((found[j] - 2) >> 5)] |= 1u << ((found[j] - 2) & 31);
        }
        const double step = micros(begin) / 1e3;
        std::printf(", \"%u\": {\"next_p50\": %.3f, \"next_p99\": %.3f, \"extend_p50\": %.3f, \"mask_ms\": %.4f}", k,
                    quantile(sets, .5), quantile(sets, .99), quantile(steps, .5), step);
        at += std::size_t{k} * count;
    }
    std::uint64_t sum = 0, row = 12345;
    from = Clock::now();
    for (unsigned j = 0; j < 1000; ++j) {
        row = (row * 6364136223846793005ull + 1442695040888963407ull);
        sum += index[(row >> 20) % index.size()];
    }
    std::printf(", \"locate\": %.3f, \"sum\": %llu}\n", micros(from) / 1000, static_cast<unsigned long long>(sum));
    return 0;
}
