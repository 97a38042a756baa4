// Times suffix_sort_bwt on a file of token ids and prints its scratch memory.
//
// Usage: suffix_sort TOKENS EOS THREADS [REPEATS]. TOKENS is a flat file of 16-bit token ids in document order; EOS is
// the id that ends a document. Documents are reversed and renumbered as the index builder does it. Prints the best
// repeat in seconds of wall clock and of processor time, the largest heap use and a hash of the result.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <vector>

#include "suffix_sort.hpp"

namespace {

std::atomic<std::size_t> in_use{0}, most_in_use{0};

}  // namespace

void* operator new(std::size_t bytes) {
    auto* block = static_cast<std::size_t*>(std::malloc(bytes + 16));
    if (!block) throw std::bad_alloc();
    *block = bytes;
    const std::size_t now = in_use.fetch_add(bytes) + bytes;
    for (std::size_t most = most_in_use; now > most && !most_in_use.compare_exchange_weak(most, now);) {}
    return block + 16 / sizeof(std::size_t);
}

void operator delete(void* pointer) noexcept {
    if (!pointer) return;
    std::size_t* block = static_cast<std::size_t*>(pointer) - 16 / sizeof(std::size_t);
    in_use.fetch_sub(*block);
    std::free(block);
}

void operator delete(void* pointer, std::size_t) noexcept { operator delete(pointer); }

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: suffix_sort TOKENS EOS THREADS [REPEATS]\n");
        return 2;
    }
    std::ifstream file(argv[1], std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const auto* tokens = reinterpret_cast<const std::uint16_t*>(bytes.data());
    const std::size_t count = bytes.size() / 2;
    const auto eos = static_cast<std::uint16_t>(std::atoi(argv[2]));
    const auto threads = static_cast<unsigned>(std::atoi(argv[3]));
    const int repeats = argc > 4 ? std::atoi(argv[4]) : 5;

    std::vector<std::uint16_t> rename(65536);
    for (std::size_t i = 0; i < count; ++i) rename[tokens[i]] = 1;
    std::size_t sigma = 1;
    for (auto& name : rename) name = name ? static_cast<std::uint16_t>(sigma++) : 0;
    std::vector<std::uint16_t> text;
    for (std::size_t first = 0, end; first < count; first = end) {
        for (end = first; end < count && tokens[end] != eos;) ++end;
        end = std::min(end + 1, count);
        for (std::size_t i = end; i-- > first;) text.push_back(rename[tokens[i]]);
        text.push_back(0);
    }

    const std::size_t n = text.size();
    std::vector<std::uint32_t> sa(n);
    std::vector<std::uint16_t> bwt(n);
    double wall = 1e9, processor = 1e9;
    const std::size_t before = in_use;
    most_in_use = before;
    for (int repeat = 0; repeat < repeats; ++repeat) {
        const auto start = std::chrono::steady_clock::now();
        const std::clock_t ticks = std::clock();
        gemkr::suffix_sort_bwt(text.data(), sa.data(), bwt.data(), n, sigma, threads);
        processor = std::min(processor, static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC);
        wall = std::min(wall, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::uint64_t hash = 14695981039346656037u;
    for (std::size_t k = 0; k < n; ++k)
        hash = (hash ^ sa[k] ^ static_cast<std::uint64_t>(bwt[k]) << 32) * 1099511628211u;
    const double size = static_cast<double>(n);
    std::printf("n %zu sigma %zu threads %u: wall %.3f s (%.1f Mtok/s), processor %.3f s (%.1f Mtok/s), "
                "scratch %.2f bytes/token, hash %016llx\n",
                n, sigma, threads, wall, size / wall / 1e6, processor, size / processor / 1e6,
                static_cast<double>(most_in_use - before) / size, static_cast<unsigned long long>(hash));
    return 0;
}
