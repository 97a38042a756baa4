// Checks suffix_sort.hpp: against std::sort on small texts, against itself on large ones, and its growth.
//
// Usage: test_suffix_sort small SEED TEXTS | large | growth. Prints what failed and exits with 1.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "suffix_sort.hpp"

namespace {

using Rng = std::mt19937_64;
using Text = std::vector<std::uint32_t>;

std::size_t below(Rng& rng, std::size_t bound) { return static_cast<std::size_t>(rng() % bound); }

[[noreturn]] void fail(const std::string& what, const Text& text) {
    std::printf("FAILED %s, n = %zu:", what.c_str(), text.size());
    for (std::size_t i = 0; i < std::min<std::size_t>(text.size(), 200); ++i) std::printf(" %u", text[i]);
    std::printf("\n");
    std::exit(1);
}

// The definition: separators order by position and end every comparison.
std::vector<std::size_t> naive(const Text& text) {
    std::vector<std::size_t> rows(text.size());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i;
    std::sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
        while (text[a] == text[b] && text[a] != 0) ++a, ++b;
        return text[a] != text[b] ? text[a] < text[b] : a < b;
    });
    return rows;
}

template <class Sym, class Row>
void compare(const Text& text, std::size_t sigma, const std::vector<std::size_t>& want, unsigned threads) {
    const std::vector<Sym> narrow(text.begin(), text.end());
    std::vector<Row> sa(text.size(), Row(-1)), alone(text.size(), Row(-1));
    std::vector<Sym> bwt(text.size(), Sym(-1));
    double last = 0;
    gemkr::suffix_sort_bwt(narrow.data(), sa.data(), bwt.data(), text.size(), sigma, threads, [&](double part) {
        if (!(part >= last && part <= 1)) fail("progress went from " + std::to_string(last), text);
        last = part;
    });
    gemkr::suffix_sort(narrow.data(), alone.data(), text.size(), sigma, threads);
    if (sa != alone) fail("suffix_sort and suffix_sort_bwt differ", text);
    if (!text.empty() && last != 1) fail("progress did not reach 1", text);
    for (std::size_t k = 0; k < sa.size(); ++k) {
        if (sa[k] != want[k]) fail("row " + std::to_string(k) + ", threads " + std::to_string(threads), text);
        if (bwt[k] != (sa[k] ? narrow[sa[k] - 1] : 0)) fail("bwt row " + std::to_string(k), text);
    }
}

void compare_all(const Text& text, std::size_t sigma, const std::vector<std::size_t>& want, std::size_t turn) {
    compare<std::uint16_t, std::uint32_t>(text, sigma, want, 1);
    if (turn % 64 != 0) return;
    for (unsigned threads : {2u, 3u, 4u}) compare<std::uint16_t, std::uint32_t>(text, sigma, want, threads);
    compare<std::uint16_t, std::uint64_t>(text, sigma, want, 2);
    compare<std::uint32_t, std::uint32_t>(text, sigma, want, 2);
    compare<std::uint32_t, std::uint64_t>(text, sigma, want, 1);
    if (turn % 1024 == 0) compare<std::uint32_t, std::uint32_t>(text, (std::size_t{1} << 21) + 1, want, 1);
}

Text random_text(Rng& rng) {
    const std::size_t sigma = 1 + below(rng, below(rng, 4) ? 6 : 60);
    const std::size_t documents = below(rng, 8), longest = 1 + below(rng, 60);
    const std::size_t style = below(rng, 4);
    Text text, previous;
    for (std::size_t d = 0; d < documents; ++d) {
        Text document(below(rng, longest));
        const std::size_t period = 1 + below(rng, 5);
        for (std::size_t i = 0; i < document.size(); ++i) {
            const bool repeat = (style == 1 && i >= period) || (style == 2 && i >= period && below(rng, 30));
            document[i] = repeat ? document[i - period] : 1 + static_cast<std::uint32_t>(below(rng, sigma));
        }
        if (style == 3 && d > 0) {
            document = previous;
            if (!document.empty() && below(rng, 2)) document[below(rng, document.size())] = 1;
        }
        text.insert(text.end(), document.begin(), document.end());
        text.push_back(0);
        previous = document;
    }
    return text;
}

// The same with every tie left to the recursion as early as it may be.
void compare_shallow(const Text& text, const std::vector<std::size_t>& want, unsigned threads) {
    if (text.empty()) return;
    const std::vector<std::uint16_t> narrow(text.begin(), text.end());
    std::vector<std::uint32_t> sa(text.size());
    std::vector<std::uint16_t> bwt(text.size());
    gemkr::suffix_detail::sort_suffixes(narrow.data(), sa.data(), bwt.data(), text.size(), 62, threads,
                                        gemkr::suffix_detail::Silent{}, {0, 0, 0});
    for (std::size_t k = 0; k < sa.size(); ++k)
        if (sa[k] != want[k]) fail("recursion, row " + std::to_string(k), text);
}

void small(std::uint64_t seed, std::size_t texts) {
    Rng rng(seed);
    for (std::size_t i = 0; i < texts; ++i) {
        const Text text = random_text(rng);
        const auto want = naive(text);
        compare_all(text, 62, want, i);
        compare_shallow(text, want, i % 16 ? 1 : 2);
    }
}

void contract() {
    const std::vector<std::uint16_t> unended{1, 2, 3}, wide{9, 0};
    std::vector<std::uint32_t> sa(3);
    auto refused = [&](const std::vector<std::uint16_t>& text, std::size_t sigma) {
        try {
            gemkr::suffix_sort(text.data(), sa.data(), text.size(), sigma, 1);
        } catch (const std::invalid_argument&) {
            return;
        }
        fail("a broken contract was not refused", Text(text.begin(), text.end()));
    };
    refused(unended, 5);
    refused(wide, 9);
    try {
        gemkr::suffix_sort(wide.data(), sa.data(), 2, 10, 2, [](double) { throw std::runtime_error("stop"); });
    } catch (const std::runtime_error&) {
        return;
    }
    fail("an exception of progress did not pass through", {});
}

// A text of n symbols of the given kind, over few documents.
Text shaped(const std::string& kind, std::size_t n) {
    Rng rng(7);
    Text text(n);
    if (kind == "one token") {
        std::fill(text.begin(), text.end(), 5u);
    } else if (kind == "fibonacci") {
        Text a{1}, b{2};
        while (b.size() < n) {
            Text next = b;
            next.insert(next.end(), a.begin(), a.end());
            a = std::move(b);
            b = std::move(next);
        }
        std::copy(b.begin(), b.begin() + static_cast<std::ptrdiff_t>(n), text.begin());
    } else if (kind == "period 2" || kind == "period 64") {
        const std::size_t period = kind == "period 2" ? 2 : 64;
        for (std::size_t i = 0; i < n; ++i)
            text[i] = i < period ? 1 + static_cast<std::uint32_t>(below(rng, 9) + (i == 0) * 9) : text[i - period];
    } else if (kind == "equal documents" || kind == "equal long documents") {
        const std::size_t length = kind == "equal documents" ? 20 : n / 10;
        for (std::size_t i = 0; i < n; ++i)
            text[i] = i < length ? 1 + static_cast<std::uint32_t>(below(rng, 500)) : text[i - length];
        for (std::size_t i = length - 1; i < n; i += length) text[i] = 0;
    } else if (kind == "two symbols") {
        for (auto& symbol : text) symbol = 1 + static_cast<std::uint32_t>(below(rng, 2));
    } else if (kind == "runs") {
        for (std::size_t i = 0, left = 0; i < n; ++i, --left) {
            if (left == 0) left = 1 + below(rng, 1000);
            text[i] = i && left > 1 ? text[i - 1] : 1 + static_cast<std::uint32_t>(below(rng, 3));
        }
    } else if (kind == "rising runs") {
        // Two documents "9 1 1 ... 1 5": pairs of seeds whose next seeds lie half a text apart.
        for (std::size_t i = 0; i < n; ++i) text[i] = i % (n / 2) == 0 ? 9 : i % (n / 2) < n / 2 - 3 ? 1 : 5;
        text[n / 2 - 1] = 0;
    } else if (kind == "empty documents") {
        std::fill(text.begin(), text.end(), 0u);
    } else {
        // Zipf-like words with long copies of earlier text, as natural corpora have.
        for (auto& symbol : text) symbol = 1 + static_cast<std::uint32_t>(below(rng, 1 + below(rng, 30000)));
        for (std::size_t k = 0; k < n / 2000; ++k) {
            const std::size_t length = 50 + below(rng, 300), from = below(rng, n - length), to = below(rng, n - length);
            for (std::size_t i = 0; i < length; ++i) text[to + i] = text[from + i];
        }
        for (std::size_t i = 150; i < n; i += 150) text[i] = 0;
    }
    text[n - 1] = 0;
    return text;
}

const char* const kKinds[] = {"one token", "fibonacci", "period 2", "period 64", "equal documents",
                              "equal long documents", "two symbols", "runs", "rising runs", "empty documents",
                              "words"};

// Linear-time proof that sa is the suffix array: a permutation whose neighbours are ordered by first symbol and,
// on a tie, by the ranks of the suffixes behind it.
template <class Sym, class Row>
void verify(const std::vector<Sym>& text, const std::vector<Row>& sa, const std::string& what) {
    const std::size_t n = text.size();
    std::vector<std::size_t> rank(n, n);
    for (std::size_t k = 0; k < n; ++k) {
        if (sa[k] >= n || rank[sa[k]] != n) fail(what + ": not a permutation", {});
        rank[sa[k]] = k;
    }
    for (std::size_t k = 1; k < n; ++k) {
        const std::size_t a = sa[k - 1], b = sa[k];
        const bool ordered = text[a] != text[b] ? text[a] < text[b] : text[a] == 0 ? a < b : rank[a + 1] < rank[b + 1];
        if (!ordered) fail(what + ": rows " + std::to_string(k - 1) + " and " + std::to_string(k), {});
    }
}

// Seconds of processor time, so that a busy machine does not disturb the growth test.
template <class Sym, class Row>
double timed(const std::vector<Sym>& text, unsigned threads, std::vector<Row>& sa) {
    sa.assign(text.size(), 0);
    const std::clock_t start = std::clock();
    gemkr::suffix_sort(text.data(), sa.data(), text.size(), 65536, threads);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

void large() {
    for (const char* kind : kKinds) {
        const Text wide = shaped(kind, 300000);
        const std::vector<std::uint16_t> text(wide.begin(), wide.end());
        std::vector<std::uint32_t> sa, again;
        std::vector<std::uint64_t> rows64;
        timed(text, 1, sa);
        verify(text, sa, kind);
        for (unsigned threads : {2u, 3u, 4u}) {
            timed(text, threads, again);
            if (again != sa) fail(std::string(kind) + ": threads change the result", {});
        }
        timed(text, 2, rows64);
        if (!std::equal(sa.begin(), sa.end(), rows64.begin())) fail(std::string(kind) + ": 64-bit rows differ", {});
        timed(wide, 2, again);
        if (again != sa) fail(std::string(kind) + ": 32-bit symbols differ", {});
    }
}

// Time at 8 n over time at n: 8 when linear, some more for the caches; 64 when quadratic. Measured again, up to three
// times, only where the machine may have disturbed it.
void growth() {
    bool good = true;
    for (const char* kind : kKinds) {
        const Text little = shaped(kind, 250000), much = shaped(kind, 2000000);
        const std::vector<std::uint16_t> few(little.begin(), little.end()), many(much.begin(), much.end());
        std::vector<std::uint32_t> sa;
        double at_n = 1e9, at_8n = 1e9, ratio = 1e9;
        for (int repeat = 0; repeat < 3 && ratio > 40; ++repeat) {
            at_n = std::min(at_n, timed(few, 1, sa));
            at_8n = std::min(at_8n, timed(many, 1, sa));
            ratio = at_8n / at_n;
        }
        std::printf("%-22s %7.2f Mtok/s at %zu, time x %.1f for 8 n\n", kind, 2 / at_8n, many.size(), ratio);
        if (ratio > 40) good = false;
    }
    if (!good) std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "small" && argc == 4) {
        contract();
        small(std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10));
    } else if (mode == "large") {
        large();
    } else if (mode == "growth") {
        growth();
    } else {
        std::fprintf(stderr, "usage: test_suffix_sort small SEED TEXTS | large | growth\n");
        return 2;
    }
    return 0;
}
