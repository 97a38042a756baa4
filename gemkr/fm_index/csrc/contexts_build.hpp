// Chooses the contexts whose successors are written down, the most frequent first, and encodes them.
#pragma once

#include <functional>

#include "buffer.hpp"
#include "kernels.hpp"
#include "pool.hpp"
#include "spill.hpp"

namespace gemkr {

struct ContextSections {
    Buffer buckets, entries, lists;
    u64 count = 0;
    unsigned shift = 0;
};

// The transform, in memory or in a file.
template <class Sym>
class Transform {
public:
    explicit Transform(const Sym* symbols) : symbols_(symbols) {}
    explicit Transform(const SpillFile& file) : file_(&file) {}

    // The symbols of rows [lo, lo + count), perhaps in room, which must hold that many.
    const Sym* rows(u64 lo, u64 count, Sym* room) const {
        if (symbols_) return symbols_ + lo;
        file_->read(lo * sizeof(Sym), room, count * sizeof(Sym));
        return room;
    }

private:
    const Sym* symbols_ = nullptr;
    const SpillFile* file_ = nullptr;
};

// Bytes that the choice takes at most, the result included.
u64 context_memory(u64 rows, u64 vocab, u64 budget);

// view: the finished wavelet matrix over the transform; budget: bytes that lists and entries may take. The list of the
// root is always written. Time is bounded by a fixed number of passes over the rows. The bytes do not depend on the
// number of threads. Memory: context_memory, and 8 bytes per symbol and thread.
template <class Sym>
ContextSections build_contexts(const Transform<Sym>& transform, const View& view, const Kernels& kernels, Pool& pool,
                               u64 budget, const std::function<void(double)>& progress);

}  // namespace gemkr
