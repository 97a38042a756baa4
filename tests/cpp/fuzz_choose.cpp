// Random rows against a full sort, hostile tokens among them: fuzz_choose SECONDS SEED prints the number of rows.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "choose.hpp"

namespace {

struct Pair {
    float score;
    std::int64_t token;
};

bool before(const Pair& a, const Pair& b) {
    const bool a_none = a.score != a.score, b_none = b.score != b.score;
    if (a_none != b_none) return a_none;
    if (!a_none && a.score != b.score) return a.score > b.score;
    return a.token < b.token;
}

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    using Clock = std::chrono::steady_clock;
    const auto until = Clock::now() + std::chrono::milliseconds(static_cast<long>(std::atof(argv[1]) * 1000));
    std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
    auto below = [&](std::uint64_t n) { return random() % n; };
    constexpr float infinity = std::numeric_limits<float>::infinity();
    unsigned long long rows = 0;
    for (; Clock::now() < until; ++rows) {
        const std::size_t width = 1 + below(70), k = 1 + below(20);
        std::vector<float> logits(width);
        for (float& logit : logits) {
            const std::uint64_t kind = below(12);
            logit = kind == 0 ? -infinity : kind == 1 ? std::nanf("") : kind == 2 ? infinity : static_cast<float>(below(9)) / 2 - 2;
        }
        std::vector<std::int64_t> tokens;
        for (std::size_t token = 0; token < width; ++token)
            if (below(2)) tokens.push_back(static_cast<std::int64_t>(token));
        std::shuffle(tokens.begin(), tokens.end(), random);
        const bool hostile = !tokens.empty() && below(8) == 0;
        if (hostile) tokens[below(tokens.size())] = below(2) ? -1 - static_cast<std::int64_t>(below(1ull << 62)) : static_cast<std::int64_t>(width + below(1ull << 62));
        const gemkr::Row row{logits.data(), width, static_cast<float>(below(3)), tokens.data(), tokens.size()};
        std::vector<float> scores(k);
        std::vector<std::int64_t> chosen(k);
        const bool fits = gemkr::choose_best(row, k, scores.data(), chosen.data());
        check(fits != hostile, "a token that does not fit was taken, or one that fits refused");
        if (hostile) continue;
        std::vector<Pair> all;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const float score = logits[tokens[i]] - row.norm;
            if (score != -infinity) all.push_back({score, tokens[i]});
        }
        std::sort(all.begin(), all.end(), before);
        for (std::size_t i = 0; i < k; ++i) {
            if (i >= all.size())
                check(scores[i] == -infinity && chosen[i] == 0, "padding is not (-inf, 0)");
            else
                check(chosen[i] == all[i].token && (scores[i] == all[i].score || scores[i] != scores[i]), "not the best of the row");
        }
    }
    std::printf("%llu\n", rows);
    return 0;
}
