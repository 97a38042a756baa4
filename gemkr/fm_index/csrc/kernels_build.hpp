// The kernel that only a build in blocks calls; included after kernels_isa.hpp. Its view was just made in memory, so
// nothing is clamped.
#pragma once

#include "kernels_isa.hpp"

namespace gemkr::GEMKR_ISA {

namespace {

void insert(const View& view, const u32* text, const u64* borders, std::size_t documents, u8* gaps,
            std::vector<u64>& wrapped) {
    struct Chain {
        const u32* next;   // one behind the symbol whose digits are being followed
        const u32* begin;  // of the document
        u64 at, code;
        i64 delta;
        u64 landed;  // place of the last suffix, not counted yet
        u32 level, left;
    };
    Chain chains[IN_FLIGHT];
    std::size_t active = 0;
    std::size_t document = 0;
    auto count_in = [&](u64 row) {
        if (__atomic_fetch_add(gaps + row, u8{1}, __ATOMIC_RELAXED) == 255) wrapped.push_back(row);
    };
    auto follow = [&](Chain& c) {  // the next symbol to the left; false at the beginning of the document
        if (c.next == c.begin) {
            count_in(c.landed);
            return false;
        }
        const SymbolRecord& record = view.symbols[*--c.next];
        if (c.next != c.begin) prefetch(view.symbols + c.next[-1]);
        c.code = record.code;
        c.delta = record.delta;
        c.level = 0;
        c.left = static_cast<u32>(record.code >> 58);
        prefetch_place(view.levels[0], c.at);
        return true;
    };
    auto admit = [&](Chain& c) {
        while (document < documents) {
            const u64 begin = borders[document], end = borders[document + 1];
            ++document;
            c.landed = view.n_docs;  // a separator follows those of all earlier documents
            c.next = text + end - 1;
            c.begin = text + begin;
            c.at = view.n_docs;
            if (follow(c)) return true;
        }
        return false;
    };
    while (active < IN_FLIGHT && admit(chains[active])) ++active;
    while (active) {
        for (std::size_t k = 0; k < active;) {
            Chain& c = chains[k];
            c.at = step(place_of(view.levels[c.level], c.at), c.code & 3);
            if (--c.left) {
                c.code >>= 2;
                prefetch_place(view.levels[++c.level], c.at);
                ++k;
                continue;
            }
            c.at += static_cast<u64>(c.delta);
            count_in(c.landed);
            c.landed = c.at;
            __builtin_prefetch(gaps + c.at, 1, 3);
            if (follow(c) || admit(c))
                ++k;
            else
                chains[k] = chains[--active];
        }
    }
}

}  // namespace

}  // namespace gemkr::GEMKR_ISA
