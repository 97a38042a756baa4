#include "text.hpp"

#include <algorithm>

#include "view.hpp"

namespace gemkr {

namespace {

constexpr u64 RENAMED_ROWS = u64{1} << 18;  // rows of a file that are renamed together

}  // namespace

TextBuilder::TextBuilder(u64 vocab_limit, u64 held_bytes, const std::string& folder) : vocab_limit_(vocab_limit) {
    if (!held_bytes) return;
    wide_ = vocab_limit == 0 || vocab_limit > 0xffff;  // rows of the file have one width
    held_rows_ = std::max<u64>(held_bytes / (wide_ ? 4 : 2), 1);
    file_ = std::make_unique<SpillFile>(folder);
}

void TextBuilder::reserve(u64 rows) {
    const std::size_t bytes = std::min(rows_ - spilled_rows_ + rows, held_rows_) * (wide_ ? 4 : 2);
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
    if (seen_.size() <= max_token_) seen_.resize(std::max<std::size_t>(max_token_ + 1, seen_.size() * 2));
    for (const u32* token = first; token != last; ++token) ++seen_[*token];
    if (rows_ - spilled_rows_ + length + 1 > held_rows_) flush();
    const u64 at = rows_ - spilled_rows_;
    const std::size_t width = wide_ ? 4 : 2, needed = (at + length + 1) * width;
    if (needed > text_.size()) text_.resize(std::max<std::size_t>(needed, text_.size() + text_.size() / 4 + 65536));
    if (wide_)
        std::copy(first, last, text_.as<u32>() + at);
    else
        std::transform(first, last, text_.as<u16>() + at,
                       [](u32 token) { return static_cast<u16>(token); });
    starts_.push_back(rows_);
    rows_ += length + 1;
    hasher_.update(&length, sizeof length);
    hasher_.update(first, length * sizeof(u32));
}

void TextBuilder::flush() {
    const u64 width = wide_ ? 4 : 2;
    file_->write(spilled_rows_ * width, text_.data(), (rows_ - spilled_rows_) * width);
    spilled_rows_ = rows_;
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

template <class From, class To>
void TextBuilder::rename(const From* from, To* to, u64 first, u64 count) const {
    // The separator of document d stands right before starts_[d + 1].
    auto next = std::upper_bound(starts_.begin(), starts_.end(), first);
    for (u64 k = 0; k < count;) {
        const u64 stop = next == starts_.end() ? count : std::min(count, *next - 1 - first);
        for (; k < stop; ++k) to[k] = static_cast<To>(symbol_[from[k]]);
        if (k == count) break;
        to[k++] = 0;
        ++next;
    }
}

template <class From, class To>
void TextBuilder::rename_file(const std::function<void(u64, const To*, u64)>& use) {
    Buffer from(RENAMED_ROWS * sizeof(From)), to(RENAMED_ROWS * sizeof(To));
    for (u64 first = 0; first < rows_;) {
        const bool spilled = first < spilled_rows_;
        const u64 count = std::min(RENAMED_ROWS, (spilled ? spilled_rows_ : rows_) - first);
        if (spilled) file_->read(first * sizeof(From), from.data(), count * sizeof(From));
        rename(spilled ? from.as<From>() : text_.as<From>() + (first - spilled_rows_), to.as<To>(), first, count);
        use(first, to.as<To>(), count);
        first += count;
    }
    text_.release();
    file_.reset();
}

Buffer TextBuilder::take_symbols() {
    const std::size_t width = narrow_symbols_ ? 2 : 4;
    if (spilled_rows_) {
        Buffer out(rows_ * width);
        auto copy = [&](u64 first, const auto* symbols, u64 count) {
            std::memcpy(out.data() + first * width, symbols, count * width);
        };
        if (!wide_) rename_file<u16, u16>(copy);
        else if (narrow_symbols_) rename_file<u32, u16>(copy);
        else rename_file<u32, u32>(copy);
        return out;
    }
    // In place: symbols are never wider than tokens.
    if (!wide_) rename(text_.as<u16>(), text_.as<u16>(), 0, rows_);
    else if (narrow_symbols_) rename(text_.as<u32>(), text_.as<u16>(), 0, rows_);
    else rename(text_.as<u32>(), text_.as<u32>(), 0, rows_);
    text_.resize(rows_ * width);
    return std::move(text_);
}

void TextBuilder::take_symbols(SpillFile& to) {
    auto write = [&](u64 first, const auto* symbols, u64 count) {
        to.write(first * sizeof(*symbols), symbols, count * sizeof(*symbols));
    };
    if (!wide_) rename_file<u16, u16>(write);
    else if (narrow_symbols_) rename_file<u32, u16>(write);
    else rename_file<u32, u32>(write);
}

void TextBuilder::finish() {
    starts_.push_back(rows_);
    if (rows_ == 0) return;
    piece_.release();
    if (!wide_ && max_token_ == 0xffff) widen();  // 65,536 tokens and the separator do not fit 16 bits
    tokens_.push_back(NO_TOKEN);
    counts_.push_back(starts_.size() - 1);
    symbol_.assign(max_token_ + 1, 0);
    for (u64 token = 0; token <= max_token_ && token < seen_.size(); ++token) {
        if (!seen_[token]) continue;
        symbol_[token] = static_cast<u32>(tokens_.size());
        tokens_.push_back(static_cast<u32>(token));
        counts_.push_back(seen_[token]);
    }
    seen_ = {};
    narrow_symbols_ = tokens_.size() <= 0x10000;
}

}  // namespace gemkr
