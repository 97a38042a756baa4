// Precomputed successor lists of the most frequent contexts: how one is found and how it is encoded.
//
// An entry is keyed by its rows [lo, hi): buckets of 2^shift first rows, inside a bucket sorted by (lo, size) and
// searched by halving. A list: varint of 2k + (1 if bitmap), k = number of tokens; the tokens as a bitmap over the
// vocabulary or, Elias-Fano coded, k low parts of l = floor(log2(vocab / k)) bits and the high parts in unary;
// then a nibble per count (15: the rest follows as a varint after all nibbles).
#pragma once

#include <algorithm>

#include "packed.hpp"
#include "view.hpp"

namespace gemkr {

constexpr u64 LIST_SLACK = 16;

inline unsigned list_low_bits(u64 vocab, u64 k) { return k ? bit_width(vocab / k) - (vocab / k ? 1 : 0) : 0; }
inline u64 list_high_bits(u64 vocab, u64 k) { return k + (vocab >> list_low_bits(vocab, k)) + 1; }
inline u64 list_token_bytes(u64 vocab, u64 k, bool bitmap) {
    if (bitmap) return ceil_div(vocab, 32) * 4;
    return ceil_div(k * list_low_bits(vocab, k), 8) + ceil_div(list_high_bits(vocab, k), 8);
}

// A list whose place and sizes have been checked against the section.
struct ListView {
    u64 size = 0;
    bool bitmap = false;
    unsigned low_width = 0;
    const u8* low = nullptr;     // or the bitmap
    const u8* high = nullptr;
    u64 high_bytes = 0;
    const u8* nibbles = nullptr;
    const u8* extra = nullptr;
    const u8* end = nullptr;
};

inline u64 read_varint(const u8*& at, const u8* end) {
    u64 value = 0;
    for (unsigned shift = 0; at < end && shift < 63; shift += 7) {
        const u8 byte = *at++;
        value |= u64{byte & 0x7fu} << shift;
        if (byte < 0x80) break;
    }
    return value;
}

// The place of the list of rows [lo, hi) in the section, or ~0.
inline u64 find_context(const View& view, u64 lo, u64 hi) {
    constexpr u64 NONE = ~u64{0};
    if (view.context_count == 0) return NONE;
    const u64 bucket = lo >> view.context_shift;
    u64 from = view.context_buckets[bucket], to = std::min<u64>(view.context_buckets[bucket + 1], view.context_count);
    const unsigned size_bits = view.row_bits, stride = view.context_shift + size_bits + view.context_offset_bits;
    const u64 low = lo & low_bits(view.context_shift), size = hi - lo;
    while (from < to) {
        const u64 middle = from + (to - from) / 2, bit = middle * stride;
        const u64 entry_low = read_bits(view.context_entries, bit, view.context_shift);
        const u64 entry_size = read_bits(view.context_entries, bit + view.context_shift, size_bits);
        if (entry_low == low && entry_size == size)
            return read_bits(view.context_entries, bit + view.context_shift + size_bits, view.context_offset_bits);
        if (entry_low < low || (entry_low == low && entry_size < size))
            from = middle + 1;
        else
            to = middle;
    }
    return NONE;
}

// Opens the list at a place; false when it does not fit its section (a damaged file).
inline bool open_list(const View& view, u64 place, ListView& list) {
    if (place >= view.lists_size) return false;
    const u8* at = view.lists + place;
    list.end = view.lists + view.lists_size;
    const u64 head = read_varint(at, list.end);
    list.size = head >> 1;
    list.bitmap = head & 1;
    if (list.size > view.vocab_size) return false;
    list.low_width = list_low_bits(view.vocab_size, list.size);
    const u64 token_bytes = list_token_bytes(view.vocab_size, list.size, list.bitmap);
    const u64 nibble_bytes = ceil_div(list.size, 2);
    if (token_bytes + nibble_bytes > static_cast<u64>(list.end - at)) return false;
    list.low = at;
    list.high = at + ceil_div(list.size * list.low_width, 8);
    list.high_bytes = list.bitmap ? 0 : ceil_div(list_high_bits(view.vocab_size, list.size), 8);
    list.nibbles = at + token_bytes;
    list.extra = list.nibbles + nibble_bytes;
    return true;
}

// The precomputed list of rows [lo, hi); an empty one and false where there is none.
inline bool find_list(const View& view, u64 lo, u64 hi, ListView& list) {
    const u64 place = find_context(view, lo, hi);
    if (place != ~u64{0} && open_list(view, place, list)) return true;
    list = ListView{};
    return false;
}

}  // namespace gemkr
