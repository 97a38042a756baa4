// Takes documents in, one by one, and keeps them as the text that is sorted: reversed, closed by separators, narrow.
#pragma once

#include <string>
#include <vector>

#include "buffer.hpp"
#include "hash.hpp"

namespace gemkr {

// Tokens are ids in [0, vocab_limit). Two bytes per token while all ids are below 65,536, else four.
class TextBuilder {
public:
    // vocab_limit: 0 where no vocabulary was named.
    explicit TextBuilder(u64 vocab_limit) : vocab_limit_(vocab_limit) {}

    // Room for this many rows (tokens and documents), where the caller knows; saves nothing but remapping.
    void reserve(u64 rows);
    // at(k) is the token at k as i64. Throws BuildError for a token outside the vocabulary.
    template <class At>
    void add(u64 length, At&& at) {
        begin(length);
        for (u64 k = 0; k < length; ++k) put(length - 1 - k, at(k));
        end(length);
    }

    u64 rows() const { return rows_; }
    u64 documents() const { return starts_.size(); }

    // After the last document -----------------------------------------------------------------------------
    // Renames tokens to symbols 1.. in the order of their ids and puts 0 at the separators.
    void finish();
    u64 collected_bytes() const { return rows_ * (wide_ ? 4 : 2); }  // of the text before it was renamed
    bool narrow() const { return narrow_symbols_; }
    Buffer& symbols() { return text_; }
    std::vector<u64>& starts() { return starts_; }  // and the number of rows at the end
    const std::vector<u32>& tokens() const { return tokens_; }     // symbol -> token; NO_TOKEN for 0
    const std::vector<u64>& counts() const { return counts_; }     // symbol -> occurrences, separators included
    u64 vocab_size() const { return vocab_limit_ ? vocab_limit_ : max_token_ + (rows_ > starts_.size() - 1); }
    Hasher& hasher() { return hasher_; }

private:
    void begin(u64 length);
    void end(u64 length);
    void widen();
    void put(u64 place, i64 token) {
        if (token < 0 || token > MAX_TOKEN || (vocab_limit_ && static_cast<u64>(token) >= vocab_limit_)) refuse(token);
        piece_.as<u32>()[place] = static_cast<u32>(token);
    }
    [[noreturn]] void refuse(i64 token) const;
    template <class From>
    void rename();

    static constexpr i64 MAX_TOKEN = (i64{1} << 31) - 2;
    u64 vocab_limit_;
    u64 max_token_ = 0;
    u64 rows_ = 0;
    bool wide_ = false;
    bool narrow_symbols_ = true;
    Buffer text_, piece_;  // piece: the document at hand
    std::vector<u64> starts_, counts_;
    std::vector<u32> tokens_;
    Hasher hasher_;
};

}  // namespace gemkr
