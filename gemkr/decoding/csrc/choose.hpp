// The k best of a row's allowed tokens: scores are logits less the row's normaliser.
//
// Order: NaN first (so that the caller sees it), then the higher score, then the lower token. Knows rows, not indexes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace gemkr {

struct Row {
    const float* logits;
    std::size_t width;  // tokens at or beyond it are refused
    float norm;
    const std::int64_t* tokens;
    std::size_t count;
};

// Keeps the best k pairs in `scores` and `tokens`, best first; the rest of them becomes (-inf, 0). A score of -inf is no
// candidate. False where a token does not fit the row. O(count + entries into the best k times k).
inline bool choose_best(const Row& row, std::size_t k, float* scores, std::int64_t* tokens) {
    constexpr float none = -std::numeric_limits<float>::infinity();
    std::size_t kept = 0;
    float least = none;  // of the k kept; nothing at or below it, with a higher token, gets in
    for (std::size_t i = 0; i < row.count; ++i) {
        const std::int64_t token = row.tokens[i];
        if (static_cast<std::uint64_t>(token) >= row.width) return false;
        const float score = row.logits[token] - row.norm + 0.0f;  // -0 becomes 0
        if (score < least || score == none) continue;
        const auto before = [&](std::size_t at) {  // whether the new pair goes before the kept one
            const float other = scores[at];
            if (score != score || other != other) return other == other || (score != score && token < tokens[at]);
            return score > other || (score == other && token < tokens[at]);
        };
        if (kept == k && !before(k - 1)) continue;
        std::size_t at = kept < k ? kept++ : k - 1;
        for (; at > 0 && before(at - 1); --at) {
            scores[at] = scores[at - 1];
            tokens[at] = tokens[at - 1];
        }
        scores[at] = score;
        tokens[at] = token;
        if (kept == k) least = scores[k - 1] == scores[k - 1] ? scores[k - 1] : none;
    }
    for (; kept < k; ++kept) {
        scores[kept] = none;
        tokens[kept] = 0;
    }
    return true;
}

}  // namespace gemkr
