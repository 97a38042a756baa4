// The memory of words beside a plain map, on random texts; for sanitizers.

#include <cstdio>
#include <cstdlib>
#include <random>
#include <unordered_map>

#include "word_cache.hpp"

using gemkr::WordCache;

namespace {

// The tokens that a word gets: any function of it will do, some words have none.
std::vector<std::uint32_t> tokens_of(const std::string& word) {
    return std::vector<std::uint32_t>(word.size() % 4, static_cast<std::uint32_t>(std::hash<std::string>()(word)));
}

void require(bool fits, const char* what) {
    if (fits) return;
    std::printf("wrong: %s\n", what);
    std::exit(1);
}

}  // namespace

int main(int, char** arguments) {
    std::mt19937 random(static_cast<unsigned>(std::atoi(arguments[1])));
    const std::string letters[] = {"a", "b", "c", "\u00e9", "\u4e2d", "\U0001f600", "\u2581", "\u00a0", "\n", "\xe2\x80", "\xff"};
    WordCache cache(false);
    std::unordered_map<std::string, bool> odd = {{"", true}};
    for (int batch = 0; batch < 300; ++batch) {
        std::vector<std::string> texts(random() % 6);
        std::vector<std::vector<std::uint32_t>> wanted;
        std::vector<bool> whole;
        for (std::string& text : texts) {
            wanted.emplace_back();
            whole.push_back(true);
            for (unsigned count = random() % 40 + 1, k = 0; k < count; ++k) {
                std::string word;
                bool is_odd = true;
                for (unsigned size = random() % 30 == 0 ? 0 : random() % 12 + 1; size; --size) {
                    const unsigned at = random() % 200 ? random() % 6 : random() % 9;
                    if (word.empty()) is_odd = false;
                    is_odd |= at > 5;
                    word += letters[at];
                }
                if (k) text += ' ';
                text += word;
                for (std::uint32_t token : tokens_of(word)) wanted.back().push_back(token);
                if (is_odd) whole.back() = false;
            }
        }
        for (const std::string& text : texts) cache.note(text);
        std::vector<std::int64_t> lengths;
        std::vector<std::uint32_t> given;
        for (const std::string_view word : cache.asked()) {
            const auto tokens = tokens_of(std::string(word));
            lengths.push_back(static_cast<std::int64_t>(tokens.size()));
            given.insert(given.end(), tokens.begin(), tokens.end());
        }
        require(cache.answer(lengths.data(), lengths.size(), given.data(), given.size()), "an answer");
        std::vector<std::int64_t> counts;
        std::size_t total = 0;
        require(cache.measure(counts, total) && counts.size() == texts.size(), "the measure");
        std::vector<std::uint32_t> out(total);
        cache.write(counts, out.data());
        std::size_t at = 0;
        for (std::size_t k = 0; k < texts.size(); ++k) {
            require((counts[k] >= 0) == whole[k], "which texts are odd");
            if (!whole[k]) continue;
            require(counts[k] == static_cast<std::int64_t>(wanted[k].size()), "a count");
            for (std::uint32_t token : wanted[k]) require(out[at++] == token, "a token");
        }
        require(at == total, "the total");
        if (cache.bytes() > 400'000) cache.clear();
    }
    for (const char* text : {"\xe2\x80", "\xc2", "\xe3\x80", "", " ", "\xff \xfe"}) cache.note(text);  // no UTF-8: nothing is read beyond
    return 0;
}
