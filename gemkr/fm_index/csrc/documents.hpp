// From spans to documents: which documents hold a pattern, how often, and where.
#pragma once

#include <vector>

#include "index.hpp"

namespace gemkr {

// Documents of several spans: those of span k stand at offsets[k] .. offsets[k + 1].
struct DocumentTable {
    std::vector<u64> offsets = {0};
    std::vector<u64> docs, counts;
};

// Distinct documents of every span, most occurrences first, ties by number, at most `limit` each. Spans must have
// been checked. Cost: one walk per row (see Index::docs_of_rows); memory 16 bytes per row of a group of spans.
DocumentTable count_documents(const Index& index, const i64* lo, const i64* hi, std::size_t count, std::size_t limit);

// All occurrences of a span, sorted by document and place.
std::vector<Occurrence> sorted_occurrences(const Index& index, i64 lo, i64 hi);

}  // namespace gemkr
