// An open index: it owns the bytes (built or mapped), checks every argument, and hands the work to the kernels.
// Thread-safe: any number of readers at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "buffer.hpp"
#include "format.hpp"
#include "kernels.hpp"
#include "pool.hpp"

namespace gemkr {

struct Occurrence {
    u64 doc;
    u64 gap;  // tokens of the document before the end of the pattern
};

// Successors of a batch: those of span k stand at offsets[k] .. offsets[k + 1] of tokens and counts.
struct SuccessorTable {
    std::vector<i64> offsets;
    i64* tokens = nullptr;
    i64* counts = nullptr;
    std::function<void(std::size_t)> allocate;  // called once, must set tokens and counts
};

class Index {
public:
    // Takes over built sections.
    Index(Header header, std::array<Buffer, SECTION_COUNT> sections);
    // Maps (or, with map = false, reads) a file. Cost with map: O(header). Throws FormatError, CorruptError,
    // std::system_error.
    Index(const std::string& path, bool map);
    ~Index();
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;

    const Header& header() const { return header_; }
    const View& view() const { return view_; }
    const Sections& sections() const { return sections_; }
    const Kernels& kernels() const { return *kernels_; }
    void use_kernels(const std::string& name);
    unsigned threads() const { return pool()->threads(); }
    // Queries that run keep the threads they began with.
    void set_threads(unsigned threads) { std::atomic_store(&pool_, std::make_shared<Pool>(threads)); }
    u64 image_bytes() const { return image_size(sections_); }
    std::string tokenizer() const;
    std::string doc_id(u64 doc) const;

    // Reads every byte of the file behind the index. Throws CorruptError; does nothing for an index just built.
    void verify() const;
    // Writes the whole file to a descriptor. Throws std::system_error.
    void write(int descriptor) const;

    // Throws QueryError unless lo <= hi <= n_rows.
    void check_span(i64 lo, i64 hi) const;
    void check_spans(const i64* lo, const i64* hi, std::size_t count) const;
    void check_doc(i64 doc) const;
    u64 doc_length(u64 doc) const;

    // Batch queries; arguments must have been checked. Threaded.
    void extend_many(const i64* lo, const i64* hi, const i64* tokens, i64* out_lo, i64* out_hi, std::size_t count) const;
    // out: count rows of ceil(vocab / 32) words, overwritten. Equal spans are worked out once.
    void fill_mask(const i64* lo, const i64* hi, std::size_t count, u32* out) const;
    // Successors of every span, as the table describes.
    void successors_many(const i64* lo, const i64* hi, std::size_t count, SuccessorTable& out) const;
    // The tokens of documents, as the kernel of this name; offsets must be those of their lengths. Threaded.
    void extract_many(const u64* docs, const i64* offsets, std::size_t count, i64* out) const;
    std::vector<Occurrence> locate_rows(const u64* rows, std::size_t count) const;
    std::vector<u64> docs_of_rows(const u64* rows, std::size_t count) const;

private:
    std::shared_ptr<Pool> pool() const { return std::atomic_load(&pool_); }
    Occurrence occurrence_at(u64 position) const;
    std::vector<u64> positions_of(const u64* rows, std::size_t count) const;

    Header header_{};
    std::string where_;
    std::array<Buffer, SECTION_COUNT> built_;
    Buffer read_;
    const u8* image_ = nullptr;
    u64 image_size_ = 0;
    bool mapped_ = false;
    Sections sections_{};
    View view_;
    const Kernels* kernels_;
    std::shared_ptr<Pool> pool_;  // read and replaced atomically
};

}  // namespace gemkr
