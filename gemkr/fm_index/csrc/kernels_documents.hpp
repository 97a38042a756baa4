// Documents and places of rows, and the tokens of documents. Included after kernels_isa.hpp.
#pragma once

#include "kernels_isa.hpp"

namespace gemkr::GEMKR_ISA {

namespace {

struct Marked {
    bool set;
    u64 rank;
};

Marked marked(const View& view, u64 row) {
    const u64 line = row / MARK_BITS, offset = row - line * MARK_BITS;
    const u64* words = view.marks + line * LINE_WORDS;
    const u64 word = offset >> 6;
    const u64 bits = words[1 + word];
    if (!(bits >> (offset & 63) & 1)) return {false, 0};
    u64 rank = words[0] + popcount(bits & low_bits(offset & 63));
    for (u64 w = 0; w < word; ++w) rank += popcount(words[1 + w]);
    return {true, rank};
}

void prefetch_mark(const View& view, u64 row) { prefetch(view.marks + row / MARK_BITS * LINE_WORDS); }

u64 start_of(const View& view, u64 doc) { return read_bits(view.starts, doc * view.row_bits, view.row_bits); }

// Reads the document whose end the separator at this rank of the transform marks.
u64 doc_of_end(const View& view, u64 rank) {
    const u64 doc = rank < view.n_docs ? read_bits(view.ends, rank * view.doc_bits, view.doc_bits) : view.n_docs;
    if (doc >= view.n_docs) throw CorruptError("section 'ends' names a document that the index does not have");
    return doc;
}

// Rank of a separator, from where its leaf was left.
u64 end_rank(const View& view, u64 at) { return at + static_cast<u64>(view.symbols[0].delta); }

void positions(const View& view, const u64* rows, u64* out, std::size_t count) {
    struct Walk {
        Descent d;
        u64 row;
        std::size_t id;
        u32 level, steps;
    };
    Walk walks[IN_FLIGHT];
    std::size_t active = 0, next = 0;
    auto admit = [&](std::size_t k) {
        while (next < count) {
            const std::size_t id = next++;
            if (rows[id] < view.n_docs) {
                out[id] = start_of(view, rows[id] + 1) - 1;
                continue;
            }
            walks[k] = {{0, 0}, rows[id], id, NO_TOKEN, 0};
            prefetch_mark(view, rows[id]);
            prefetch_place(view.levels[0], rows[id]);
            return true;
        }
        return false;
    };
    while (active < IN_FLIGHT && admit(active)) ++active;
    while (active) {
        for (std::size_t k = 0; k < active;) {
            Walk& w = walks[k];
            bool done = false;
            if (w.level == NO_TOKEN) {
                const Marked mark = marked(view, w.row);
                if (mark.set) {
                    if (mark.rank >= view.sample_count)
                        throw CorruptError("section 'marks' counts more samples than the index has");
                    out[w.id] =
                        read_bits(view.samples, mark.rank * view.sample_bits, view.sample_bits) * view.sample_rate +
                        w.steps;
                    done = true;
                } else if (w.steps >= view.sample_rate) {
                    throw CorruptError("section 'marks' leaves a row without a sample in reach");
                } else {
                    w.d = {w.row, 0};
                    w.level = 0;
                }
            }
            if (!done) {
                const u32 symbol = descend(view.levels[w.level], w.d);
                if (symbol == NO_TOKEN) {
                    if (++w.level >= view.level_count) throw CorruptError("section 'wavelet' leads nowhere");
                    prefetch_place(view.levels[w.level], w.d.at);
                } else if (symbol == 0) {
                    out[w.id] = start_of(view, doc_of_end(view, end_rank(view, w.d.at))) + w.steps;
                    done = true;
                } else if (symbol >= view.sigma) {
                    throw CorruptError("section 'leaves' names a symbol that the index does not have");
                } else {
                    w.row = clamp_to(w.d.at + static_cast<u64>(view.symbols[symbol].delta), view.n_rows - 1);
                    w.level = NO_TOKEN;
                    ++w.steps;
                    prefetch_mark(view, w.row);
                    prefetch_place(view.levels[0], w.row);
                }
            }
            if (!done || admit(k))
                ++k;
            else
                walks[k] = walks[--active];
        }
    }
}

void extract(const View& view, u64 doc, u64 start, u64 stop, i64* out) {
    u64 row = doc;
    for (u64 k = 0; k < stop; ++k) {
        Descent d{row};
        u32 symbol = NO_TOKEN;
        for (unsigned l = 0; l < view.level_count && symbol == NO_TOKEN; ++l) symbol = descend(view.levels[l], d);
        if (symbol == 0 || symbol >= view.sigma)
            throw CorruptError("section 'wavelet' ends document " + std::to_string(doc) + " too early");
        if (k >= start) out[k - start] = view.tokens[symbol];
        row = clamp_to(d.at + static_cast<u64>(view.symbols[symbol].delta), view.n_rows - 1);
    }
}

void extract_many(const View& view, const u64* docs, const i64* offsets, std::size_t count, i64* out) {
    struct Walk {
        Descent d;
        u64 doc;
        i64 *to, *stop;
        u32 level;
    };
    Walk walks[IN_FLIGHT];
    std::size_t active = 0, next = 0;
    auto admit = [&](std::size_t k) {
        while (next < count) {
            const std::size_t id = next++;
            if (offsets[id] == offsets[id + 1]) continue;
            walks[k] = {{docs[id], 0}, docs[id], out + offsets[id], out + offsets[id + 1], 0};
            prefetch_place(view.levels[0], docs[id]);
            return true;
        }
        return false;
    };
    while (active < IN_FLIGHT && admit(active)) ++active;
    while (active) {
        for (std::size_t k = 0; k < active;) {
            Walk& w = walks[k];
            const u32 symbol = w.level < view.level_count ? descend(view.levels[w.level], w.d) : 0;
            bool done = false;
            if (symbol == NO_TOKEN) {
                if (++w.level < view.level_count) prefetch_place(view.levels[w.level], w.d.at);
            } else {
                if (symbol == 0 || symbol >= view.sigma)
                    throw CorruptError("section 'wavelet' ends document " + std::to_string(w.doc) + " too early");
                *w.to++ = view.tokens[symbol];
                done = w.to == w.stop;
                w.d = {clamp_to(w.d.at + static_cast<u64>(view.symbols[symbol].delta), view.n_rows - 1), 0};
                w.level = 0;
                if (!done) prefetch_place(view.levels[0], w.d.at);
            }
            if (!done || admit(k))
                ++k;
            else
                walks[k] = walks[--active];
        }
    }
}

}  // namespace

}  // namespace gemkr::GEMKR_ISA
