// The tokens of words that were seen before, for tokenizers whose words are tokenized independently of each other.
//
// A word is what stands between two spaces. Knows no tokenizer: tokens of new words are handed in.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace gemkr {

class WordCache {
public:
    // ascii_only: words with other characters are odd too.
    explicit WordCache(bool ascii_only) : ascii_only_(ascii_only) { clear(); }

    // Cuts a text at its spaces and notes its words, new ones to be asked for.
    void note(std::string_view text) {
        std::array<Waiting, TOGETHER> waiting;
        std::size_t count = 0;
        for (std::size_t from = 0;;) {
            const std::size_t to = std::min(text.find(' ', from), text.size());
            const std::string_view word = text.substr(from, to - from);
            waiting[count] = {word, hash_of(word)};
            __builtin_prefetch(&slots_[waiting[count++].hash & (slots_.size() - 1)]);
            if (count == TOGETHER || to == text.size()) {
                number(waiting, count);
                count = 0;
            }
            if (to == text.size()) break;
            from = to + 1;
        }
        ends_.push_back(noted_.size());
    }

    // New words that are not odd, in the order in which their tokens must be handed in.
    std::vector<std::string_view> asked() const {
        std::vector<std::string_view> out;
        for (std::size_t k = answered_; k < words_.size(); ++k)
            if (words_[k].count != ODD) out.emplace_back(keys_.data() + words_[k].key, words_[k].key_size);
        return out;
    }
    // Tokens of the words that were asked for, one after the other. False when the lengths do not fit.
    bool answer(const std::int64_t* lengths, std::size_t count, const std::uint32_t* tokens, std::size_t size) {
        std::size_t next = 0, at = 0;
        for (std::size_t k = answered_; k < words_.size(); ++k) {
            if (words_[k].count == ODD) continue;
            if (next == count || lengths[next] < 0 || static_cast<std::uint64_t>(lengths[next]) > size - at) return false;
            words_[k].first = tokens_.size() + at;
            words_[k].count = static_cast<std::uint32_t>(lengths[next]);
            at += static_cast<std::size_t>(lengths[next++]);
        }
        if (next != count || at != size) return false;
        tokens_.insert(tokens_.end(), tokens, tokens + size);
        answered_ = words_.size();
        return true;
    }

    // Tokens of each noted text; -1 for one with an odd word, which has none here. All words must have been answered.
    bool measure(std::vector<std::int64_t>& counts, std::size_t& total) const {
        if (answered_ != words_.size()) return false;
        total = 0;
        for (std::size_t k = 0, at = 0; k < ends_.size(); ++k) {
            std::int64_t sum = 0;
            for (; at < ends_[k]; ++at) {
                const Word& word = words_[noted_[at]];
                sum = word.count == ODD || sum < 0 ? -1 : sum + word.count;
            }
            counts.push_back(sum);
            if (sum > 0) total += static_cast<std::size_t>(sum);
        }
        return true;
    }
    // Writes the tokens of the texts that `measure` gave a count, and forgets the texts.
    template <class Token>
    void write(const std::vector<std::int64_t>& counts, Token* to) {
        for (std::size_t k = 0, at = 0; k < ends_.size(); ++k) {
            if (counts[k] < 0) {
                at = ends_[k];
                continue;
            }
            for (; at < ends_[k]; ++at) {
                const Word& word = words_[noted_[at]];
                const std::uint32_t* from = tokens_.data() + word.first;
                for (std::uint32_t i = 0; i < word.count; ++i) *to++ = static_cast<Token>(from[i]);
            }
        }
        noted_.clear();
        ends_.clear();
    }

    std::size_t words() const { return words_.size(); }
    std::size_t bytes() const {
        return keys_.size() + words_.size() * sizeof(Word) + tokens_.size() * 4 + slots_.size() * sizeof(Slot);
    }
    // Forgets all words, and texts that were noted.
    void clear() {
        keys_.clear();
        words_.clear();
        tokens_.clear();
        noted_.clear();
        ends_.clear();
        slots_.assign(1 << 12, Slot{0, 0});
        answered_ = 0;
    }

private:
    static constexpr std::uint32_t ODD = ~std::uint32_t{0};
    static constexpr std::size_t TOGETHER = 16;  // words that wait for memory at the same time
    struct Waiting {
        std::string_view word;
        std::uint64_t hash;
    };
    struct Word {
        std::uint64_t key, first, hash;
        std::uint32_t key_size, count;
    };
    struct Slot {
        std::uint32_t number, tag;  // number: of a word, plus one; tag: the upper half of its hash
    };

    static std::uint64_t hash_of(std::string_view word) {
        std::uint64_t hash = 0x9E3779B97F4A7C15u ^ word.size();
        const char* at = word.data();
        std::size_t left = word.size();
        for (; left >= 8; at += 8, left -= 8) {
            std::uint64_t part;
            std::memcpy(&part, at, 8);
            hash = mix(hash ^ part);
        }
        std::uint64_t rest = 0;
        std::memcpy(&rest, at, left);
        return mix(hash ^ rest);
    }
    static std::uint64_t mix(std::uint64_t x) {
        x *= 0xD6E8FEB86659FD93u;
        return (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    }

    void number(const std::array<Waiting, TOGETHER>& waiting, std::size_t count) {
        for (std::size_t k = 0; k < count; ++k) {
            const Slot& slot = slots_[waiting[k].hash & (slots_.size() - 1)];
            if (slot.number) __builtin_prefetch(&words_[slot.number - 1]);
        }
        for (std::size_t k = 0; k < count; ++k) noted_.push_back(number_of(waiting[k]));
    }
    std::uint32_t number_of(const Waiting& asked) {
        const auto [word, hash] = asked;
        const auto tag = static_cast<std::uint32_t>(hash >> 32);
        const std::size_t mask = slots_.size() - 1;
        std::size_t at = hash & mask;
        for (; slots_[at].number; at = (at + 1) & mask) {
            if (slots_[at].tag != tag) continue;
            const Word& known = words_[slots_[at].number - 1];
            if (known.key_size == word.size() && std::memcmp(keys_.data() + known.key, word.data(), word.size()) == 0)
                return slots_[at].number - 1;
        }
        slots_[at] = {static_cast<std::uint32_t>(words_.size() + 1), tag};
        words_.push_back({keys_.size(), 0, hash, static_cast<std::uint32_t>(word.size()), is_odd(word) ? ODD : 0});
        keys_.append(word);
        const auto number = static_cast<std::uint32_t>(words_.size() - 1);
        if (words_.size() * 2 > slots_.size()) grow();
        return number;
    }
    void grow() {
        std::vector<Slot> wider(slots_.size() * 2, Slot{0, 0});
        const std::size_t mask = wider.size() - 1;
        for (std::size_t k = 0; k < words_.size(); ++k) {
            std::size_t at = words_[k].hash & mask;
            while (wider[at].number) at = (at + 1) & mask;
            wider[at] = {static_cast<std::uint32_t>(k + 1), static_cast<std::uint32_t>(words_[k].hash >> 32)};
        }
        slots_.swap(wider);
    }

    // Empty, or with white space, control characters or the sign U+2581 that stands for a space in vocabularies.
    bool is_odd(std::string_view word) const {
        if (word.empty()) return true;
        for (std::size_t k = 0; k < word.size(); ++k) {
            const auto byte = static_cast<unsigned char>(word[k]);
            if (byte <= 0x20 || byte == 0x7F || (ascii_only_ && byte >= 0x80)) return true;
            if (byte < 0xC2 || word.size() - k < 2) continue;
            const auto second = static_cast<unsigned char>(word[k + 1]);
            if (byte == 0xC2 && second <= 0xA0) return true;  // control characters, no-break space
            if (word.size() - k < 3) continue;
            const auto third = static_cast<unsigned char>(word[k + 2]);
            const bool space = (byte == 0xE1 && second == 0x9A && third == 0x80) ||
                               (byte == 0xE2 && second == 0x80 &&
                                (third <= 0x8A || third == 0xA8 || third == 0xA9 || third == 0xAF)) ||
                               (byte == 0xE2 && second == 0x81 && third == 0x9F) ||
                               (byte == 0xE3 && second == 0x80 && third == 0x80);
            if (space || (byte == 0xE2 && second == 0x96 && third == 0x81)) return true;
        }
        return false;
    }

    bool ascii_only_;
    std::string keys_;
    std::vector<Word> words_;
    std::vector<std::uint32_t> tokens_, noted_;
    std::vector<std::size_t> ends_;  // of the noted texts
    std::vector<Slot> slots_;
    std::size_t answered_ = 0;
};

}  // namespace gemkr
