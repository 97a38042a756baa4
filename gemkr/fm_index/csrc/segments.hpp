// Several indexes as one: positive segments, and negative ones that hold the deleted documents of the positive ones and
// whose counts are subtracted. What is left are the live documents, and every answer is exactly theirs.
//
// A pattern has one range of rows in each segment, so its span here is a code: lo = (first row in the first positive
// segment that holds the pattern, counted over all positive segments) * 2^16 + length, and hi = lo + live occurrences. The
// ranges behind a code are cached; where they are forgotten, the code names an occurrence to search anew. The root is
// [0, live rows), the empty span [0, 0). [lo, lo + k) stands for the first k live occurrences in the order of an index of the
// live documents; only documents are told of it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "documents.hpp"
#include "index.hpp"
#include "live.hpp"
#include "states.hpp"

namespace gemkr {

constexpr unsigned LENGTH_BITS = 16;
constexpr u64 LONGEST_PATTERN = (u64{1} << LENGTH_BITS) - 1;

struct Segment {
    const Index* index;
    bool negative;
    const i64* docs;         // positive: the deleted documents, ascending; negative: the number of each document over all positive ones
    std::size_t doc_count;
};

class Segments {
public:
    // The positive segments come first. The indexes and arrays must live on. Throws QueryError where they cannot belong together.
    Segments(std::vector<Segment> segments, u64 vocab_size);

    u64 rows() const { return rows_; }
    u64 tokens() const { return rows_ - live_.size(); }
    u64 vocab_size() const { return vocab_size_; }
    std::size_t size() const { return segments_.size(); }
    const LiveDocuments& live() const { return live_; }
    unsigned threads() const { return pool()->threads(); }
    void set_threads(unsigned threads) { std::atomic_store(&pool_, std::make_shared<Pool>(threads)); }
    void forget() { cache_.clear(); }

    // The tokens of the pattern with a code. Throws QueryError for other numbers.
    std::vector<i64> pattern(i64 code) const;

    // All take spans as above and throw QueryError for others. The ranges of span k go to out + k * size().
    void resolve(const i64* lo, const i64* hi, std::size_t count, Range* out) const;
    void extend_many(const i64* lo, const i64* hi, const i64* tokens, i64* out_lo, i64* out_hi, std::size_t count) const;
    // out: count rows of ceil(vocab / 32) words, overwritten.
    void fill_mask(const i64* lo, const i64* hi, std::size_t count, u32* out) const;
    void successors_many(const i64* lo, const i64* hi, std::size_t count, SuccessorTable& out) const;
    u64 count_ends(i64 lo, i64 hi) const;
    DocumentTable documents(const i64* lo, const i64* hi, std::size_t count, std::size_t limit) const;
    // The live document of every occurrence, or none() when there are several or there is no occurrence.
    u64 only_document(i64 lo, i64 hi) const;
    static constexpr u64 none() { return ~u64{0}; }
    // Live occurrences, by document and place.
    std::vector<Occurrence> occurrences(i64 lo, i64 hi) const;

private:
    struct Key;
    std::shared_ptr<Pool> pool() const { return std::atomic_load(&pool_); }
    // As resolve; whole_only: a span of fewer than all live occurrences is refused.
    void resolve(const i64* lo, const i64* hi, std::size_t count, Range* out, bool whole_only) const;
    void search_again(i64 code, Range* out) const;
    u64 live_count(const Range* ranges) const;
    i64 code_of(const Range* ranges, u64 length) const;
    // Calls sink(k, tokens, live counts, their number) for each of a few states, size() ranges each; tokens ascend.
    template <class Sink>
    void merge_successors(const Range* const* states, std::size_t count, Sink&& sink) const;
    // Cuts ranges so that their first `wanted` live occurrences are left.
    void first_occurrences(Range* ranges, u64 wanted, u64 length) const;
    Key key_of(std::size_t segment, u64 row) const;
    u64 first_not_before(std::size_t segment, Range rows, const Key& key, u64 length) const;
    bool deleted(std::size_t segment, u64 doc) const { return live_.is_deleted(segment, doc); }

    std::vector<Segment> segments_;
    std::size_t positives_ = 0;
    std::vector<u64> first_row_;  // of each positive segment, and the end
    LiveDocuments live_;
    u64 rows_ = 0, vocab_size_;
    mutable StateCache cache_;
    std::shared_ptr<Pool> pool_;  // read and replaced atomically
};

}  // namespace gemkr
