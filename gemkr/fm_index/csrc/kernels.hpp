// The query kernels, compiled once per instruction set and chosen when an index is opened.
#pragma once

#include <vector>

#include "view.hpp"

namespace gemkr {

// A state whose successors are wanted: rows [lo, hi), lo < hi <= n_rows, and its number in the caller's batch.
struct Job {
    u64 lo, hi;
    u32 id;
};

struct ListView;

struct Successor {
    u64 key;  // number of the job << 32 | token: the order in which results are given
    u64 count;
    u32 token() const { return static_cast<u32>(key); }
    u32 job() const { return static_cast<u32>(key >> 32); }
};

// Frontiers of the walk through the wavelet matrix, kept between calls so that no call allocates.
struct Scratch {
    struct Wide {
        u64 lo, hi;
        u32 job, node;
    };
    struct Single {
        u64 at;
        u32 job, node;
    };
    std::vector<Wide> wide, next_wide;
    std::vector<Single> single, next_single;
    std::vector<Job> jobs;
    std::vector<Successor> found;
};

struct Kernels {
    const char* name;
    // Appends the token; false when nothing is left. Precondition: lo <= hi <= n_rows.
    bool (*extend)(const View&, u64& lo, u64& hi, u64 token);
    // The same for many states in lock step; empty results become (0, 0).
    void (*extend_many)(const View&, const i64* lo, const i64* hi, const i64* tokens, i64* out_lo, i64* out_hi,
                        std::size_t count);
    // Separators in rows [lo, hi).
    u64 (*count_ends)(const View&, u64 lo, u64 hi);
    // Sets bit t of row job.id of out (words_per_row words each) for every successor t; other bits stay.
    void (*fill_rows)(const View&, const Job* jobs, std::size_t count, u32* out, std::size_t words_per_row, Scratch&);
    // Appends to scratch.found the successors of every job, sorted by job number and token, without the help of
    // precomputed lists.
    void (*walk)(const View&, const Job* jobs, std::size_t count, Scratch&);
    // Decodes a precomputed list into list.size tokens, ascending, and their counts. Throws CorruptError.
    void (*decode)(const View&, const ListView& list, i64* tokens, i64* counts);
    // Text position of each row; walks in lock step. Throws CorruptError.
    void (*positions)(const View&, const u64* rows, u64* out, std::size_t count);
    // The tokens [start, stop) of a document; stop is at most its length. Throws CorruptError.
    void (*extract)(const View&, u64 doc, u64 start, u64 stop, i64* out);
    // All tokens of several documents, in lock step: those of docs[k] go to out[offsets[k]] .. out[offsets[k + 1]], which is its
    // length. Throws CorruptError.
    void (*extract_many)(const View&, const u64* docs, const i64* offsets, std::size_t count, i64* out);

    // Called while an index is built, on a view whose numbers can be trusted.
    // For every suffix of the documents, the number of suffixes of the view that are smaller: counts it in
    // gaps[number], and appends the number to wrapped whenever that byte passes 255. Document d is
    // text[borders[d], borders[d + 1]) and ends with its separator. Other threads may count in the same gaps.
    void (*insert)(const View&, const u32* text, const u64* borders, std::size_t documents, u8* gaps,
                   std::vector<u64>& wrapped);
};

extern const Kernels base_kernels;
#ifdef GEMKR_X86
extern const Kernels bmi_kernels;
#endif

// The fastest table that this processor runs.
const Kernels& best_kernels();

}  // namespace gemkr
