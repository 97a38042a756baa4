#include "text.hpp"

#include <algorithm>

#include "view.hpp"

namespace gemkr {

void TextBuilder::reserve(u64 rows) {
    const std::size_t bytes = (rows_ + rows) * (wide_ ? 4 : 2);
    if (bytes > text_.size()) text_.resize(bytes);
}

void TextBuilder::begin(u64 length) {
    if (length >> 40) throw BuildError("document " + std::to_string(starts_.size()) + " is too long");
    if (length * 4 > piece_.size()) piece_.resize(length * 4);
}

void TextBuilder::refuse(i64 token) const {
    const std::string where = "document " + std::to_string(starts_.size()) + " holds token " + std::to_string(token);
    if (token < 0) throw BuildError(where + ", but token ids are not negative");
    if (token > MAX_TOKEN) throw BuildError(where + ", the largest token id is " + std::to_string(MAX_TOKEN));
    throw BuildError(where + ", outside the vocabulary of " + std::to_string(vocab_limit_) +
                     "; raise vocab_size or use the tokenizer that made the documents");
}

void TextBuilder::end(u64 length) {
    const u32* const first = piece_.as<u32>();
    const u32* const last = first + length;
    u32 most = 0;
    for (const u32* token = first; token != last; ++token) most = std::max(most, *token);
    if (most > 0xffff && !wide_) widen();
    max_token_ = std::max<u64>(max_token_, most);
    const std::size_t width = wide_ ? 4 : 2, needed = (rows_ + length + 1) * width;
    if (needed > text_.size()) text_.resize(std::max<std::size_t>(needed, text_.size() + text_.size() / 4 + 65536));
    if (wide_)
        std::copy(first, last, text_.as<u32>() + rows_);
    else
        std::transform(first, last, text_.as<u16>() + rows_,
                       [](u32 token) { return static_cast<u16>(token); });
    starts_.push_back(rows_);
    rows_ += length + 1;
    hasher_.update(&length, sizeof length);
    hasher_.update(first, length * sizeof(u32));
}

void TextBuilder::widen() {
    text_.resize(std::max<std::size_t>(text_.size() * 2, rows_ * 4));
    u32* to = text_.as<u32>();
    const u16* from = text_.as<u16>();
    for (u64 k = rows_; k-- > 0;) {
        const u32 token = from[k];
        to[k] = token;
    }
    wide_ = true;
}

template <class From>
void TextBuilder::rename() {
    From* from = text_.as<From>();
    std::vector<u64> seen(max_token_ + 1, 0);
    for (u64 d = 0; d + 1 < starts_.size(); ++d)
        for (u64 k = starts_[d]; k + 1 < starts_[d + 1]; ++k) ++seen[from[k]];
    tokens_.push_back(NO_TOKEN);
    counts_.push_back(starts_.size() - 1);
    std::vector<u32> symbol(max_token_ + 1, 0);
    for (u64 token = 0; token <= max_token_; ++token) {
        if (!seen[token]) continue;
        symbol[token] = static_cast<u32>(tokens_.size());
        tokens_.push_back(static_cast<u32>(token));
        counts_.push_back(seen[token]);
    }
    narrow_symbols_ = tokens_.size() <= 0x10000;
    auto write = [&](auto* to) {
        using Out = std::remove_reference_t<decltype(*to)>;
        for (u64 doc = 0; doc + 1 < starts_.size(); ++doc) {
            for (u64 k = starts_[doc]; k + 1 < starts_[doc + 1]; ++k) to[k] = static_cast<Out>(symbol[from[k]]);
            to[starts_[doc + 1] - 1] = 0;
        }
    };
    if (narrow_symbols_) {
        write(text_.as<u16>());
        text_.resize(rows_ * 2);
    } else {
        text_.resize(std::max<std::size_t>(text_.size(), rows_ * 4));
        from = text_.as<From>();
        write(text_.as<u32>());
        text_.resize(rows_ * 4);
    }
}

void TextBuilder::finish() {
    starts_.push_back(rows_);
    if (rows_ == 0) return;
    if (!wide_ && max_token_ == 0xffff) widen();  // 65,536 tokens and the separator do not fit 16 bits
    if (wide_)
        rename<u32>();
    else
        rename<u16>();
    piece_.release();
}

}  // namespace gemkr
