#include "contexts_build.hpp"

#include <algorithm>
#include <queue>

#include "contexts.hpp"
#include "packed.hpp"

namespace gemkr {

namespace {

constexpr u64 MIN_ROWS = 12;           // smaller contexts are walked faster than looked up
constexpr u64 MAX_PASSES = 24;         // rows read, as a multiple of the text: bounds the time on repetitive texts
constexpr u64 BITMAP_FACTOR = 3;       // a bitmap may be this much larger than the coded tokens: it is copied, not decoded
constexpr unsigned BUCKET_BYTES = 4;

struct Context {
    u64 size, lo;
};
struct LessFrequent {
    bool operator()(const Context& a, const Context& b) const {
        return a.size != b.size ? a.size < b.size : a.lo > b.lo;
    }
};
struct Entry {
    u64 lo, size, place;
};

void append_varint(std::vector<u8>& out, u64 value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<u8>(value | 0x80));
    out.push_back(static_cast<u8>(value));
}

// The list as contexts.hpp describes it, appended to out.
void append_list(std::vector<u8>& out, const View& view, const std::vector<u32>& symbols, const u64* counts) {
    const u64 k = symbols.size(), vocab = view.vocab_size;
    const bool bitmap = list_token_bytes(vocab, k, true) <= BITMAP_FACTOR * list_token_bytes(vocab, k, false);
    append_varint(out, k << 1 | (bitmap ? 1 : 0));
    const std::size_t at = out.size();
    out.resize(at + list_token_bytes(vocab, k, bitmap) + ceil_div(k, 2) + PACKED_SLACK, 0);
    u8* base = out.data() + at;
    const unsigned width = list_low_bits(vocab, k);
    u8* high = base + ceil_div(k * width, 8);
    for (u64 i = 0; i < k; ++i) {
        const u64 token = view.tokens[symbols[i]];
        if (bitmap) {
            base[token >> 3] = static_cast<u8>(base[token >> 3] | 1u << (token & 7));
        } else {
            if (width) write_bits(base, i * width, width, token);
            const u64 bit = (token >> width) + i;
            high[bit >> 3] = static_cast<u8>(high[bit >> 3] | 1u << (bit & 7));
        }
    }
    u8* nibbles = base + list_token_bytes(vocab, k, bitmap);
    for (u64 i = 0; i < k; ++i)
        nibbles[i >> 1] = static_cast<u8>(nibbles[i >> 1] | std::min<u64>(counts[symbols[i]], 15) << 4 * (i & 1));
    out.resize(out.size() - PACKED_SLACK);
    for (u64 i = 0; i < k; ++i)
        if (counts[symbols[i]] >= 15) append_varint(out, counts[symbols[i]] - 15);
}

}  // namespace

template <class Sym>
ContextSections build_contexts(const Sym* bwt, const View& view, const Kernels& kernels, u64 budget) {
    ContextSections out;
    if (view.n_tokens == 0) return out;
    std::priority_queue<Context, std::vector<Context>, LessFrequent> queue;
    queue.push({view.n_rows, 0});
    std::vector<Entry> entries;
    std::vector<u8> lists;
    std::vector<u64> counts(view.sigma, 0);
    std::vector<u32> found;
    std::vector<i64> lo, hi, tokens, child_lo, child_hi;
    const u64 entry_bytes = ceil_div(2 * view.row_bits, 8) + BUCKET_BYTES;
    u64 rows_left = view.n_rows * MAX_PASSES;
    Context last{0, 0};
    while (!queue.empty()) {
        const Context context = queue.top();
        queue.pop();
        if (context.size == last.size && context.lo == last.lo) continue;
        last = context;
        if (context.size > rows_left) break;
        rows_left -= context.size;
        found.clear();
        for (u64 row = context.lo, end = context.lo + context.size; row < end; ++row) {
            const u32 symbol = bwt[row];
            if (counts[symbol]++ == 0 && symbol != 0) found.push_back(symbol);
        }
        if (found.size() * 16 > view.sigma) {
            found.clear();
            for (u32 symbol = 1; symbol < view.sigma; ++symbol)
                if (counts[symbol]) found.push_back(symbol);
        } else {
            std::sort(found.begin(), found.end());
        }
        const std::size_t place = lists.size();
        append_list(lists, view, found, counts.data());
        const bool fits = lists.size() + (entries.size() + 1) * entry_bytes <= budget;
        if (!fits && !entries.empty()) {
            lists.resize(place);
            break;
        }
        entries.push_back({context.lo, context.size, place});
        tokens.clear();
        lo.clear();
        hi.clear();
        for (u32 symbol : found) {
            if (counts[symbol] >= MIN_ROWS) {
                tokens.push_back(view.tokens[symbol]);
                lo.push_back(static_cast<i64>(context.lo));
                hi.push_back(static_cast<i64>(context.lo + context.size));
            }
            counts[symbol] = 0;
        }
        counts[0] = 0;
        child_lo.resize(tokens.size());
        child_hi.resize(tokens.size());
        kernels.extend_many(view, lo.data(), hi.data(), tokens.data(), child_lo.data(), child_hi.data(), tokens.size());
        for (std::size_t k = 0; k < tokens.size(); ++k)
            queue.push({static_cast<u64>(child_hi[k] - child_lo[k]), static_cast<u64>(child_lo[k])});
    }

    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.lo != b.lo ? a.lo < b.lo : a.size < b.size; });
    out.count = entries.size();
    while (out.shift < view.row_bits && (view.n_rows >> out.shift) > out.count) ++out.shift;
    const unsigned place_bits = bit_width(lists.size()), stride = out.shift + view.row_bits + place_bits;
    out.buckets.resize(((view.n_rows >> out.shift) + 2) * BUCKET_BYTES);
    out.entries.resize(packed_bytes(out.count, stride));
    out.lists.resize(lists.size() + LIST_SLACK);
    std::memcpy(out.lists.data(), lists.data(), lists.size());
    u32* buckets = out.buckets.as<u32>();
    for (const Entry& entry : entries) ++buckets[(entry.lo >> out.shift) + 1];
    for (u64 b = 0; b < (view.n_rows >> out.shift) + 1; ++b) buckets[b + 1] += buckets[b];
    for (std::size_t k = 0; k < entries.size(); ++k) {
        u8* at = out.entries.data();
        const u64 bit = k * stride;
        write_bits(at, bit, out.shift, entries[k].lo);
        write_bits(at, bit + out.shift, view.row_bits, entries[k].size);
        write_bits(at, bit + out.shift + view.row_bits, place_bits, entries[k].place);
    }
    return out;
}

template ContextSections build_contexts<u16>(const u16*, const View&, const Kernels&, u64);
template ContextSections build_contexts<u32>(const u32*, const View&, const Kernels&, u64);

}  // namespace gemkr
