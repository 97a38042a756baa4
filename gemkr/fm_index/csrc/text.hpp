// Takes documents in, one by one, and keeps them as the text that is sorted: reversed, closed by separators, narrow; in
// memory or, beyond a size, in a temporary file.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "buffer.hpp"
#include "hash.hpp"
#include "spill.hpp"

namespace gemkr {

// Tokens are ids in [0, vocab_limit). Two bytes per token while all ids are below 65,536, else four.
class TextBuilder {
public:
    // vocab_limit: 0 where no vocabulary was named. held_bytes: what may lie in memory, the rest goes to a file of the folder,
    // which takes four bytes per token where the vocabulary may hold 65,536; 0: all lies in memory.
    explicit TextBuilder(u64 vocab_limit, u64 held_bytes = 0, const std::string& folder = "");

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
    // Tokens get symbols 1.. in the order of their ids, separators 0.
    void finish();
    u64 held_bytes() const { return std::min(rows_, held_rows_) * (wide_ ? 4 : 2); }  // most that lay in memory
    bool narrow() const { return narrow_symbols_; }
    // Turns the text into symbols, u16 where narrow(), else u32. Consumes it.
    Buffer take_symbols();
    // The same, written to a file piece by piece, a few MB at a time.
    void take_symbols(SpillFile& to);
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
    void flush();
    // Symbols of the rows [first, first + count), whose tokens stand at `from`; may be written over them from behind.
    template <class From, class To>
    void rename(const From* from, To* to, u64 first, u64 count) const;
    template <class From, class To>
    void rename_file(const std::function<void(u64, const To*, u64)>& use);

    static constexpr i64 MAX_TOKEN = (i64{1} << 31) - 2;
    u64 vocab_limit_;
    u64 max_token_ = 0;
    u64 rows_ = 0;
    u64 held_rows_ = ~u64{0};   // how many rows lie in memory at most
    u64 spilled_rows_ = 0;      // how many went to the file
    bool wide_ = false;
    bool narrow_symbols_ = true;
    Buffer text_, piece_;  // text: the rows that are not in the file; piece: the document at hand
    std::unique_ptr<SpillFile> file_;
    std::vector<u64> starts_, counts_, seen_;  // seen: occurrences of each token
    std::vector<u32> tokens_, symbol_;         // symbol -> token, token -> symbol
    Hasher hasher_;
};

}  // namespace gemkr
