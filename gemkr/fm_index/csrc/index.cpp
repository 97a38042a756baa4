#include "index.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "contexts.hpp"
#include "packed.hpp"
#include "twins.hpp"

namespace gemkr {

namespace {

constexpr std::size_t PIECE = 32;  // states per piece of a threaded batch

[[noreturn]] void fail_io(const char* what, const std::string& path) {
    throw std::system_error(errno, std::generic_category(), what + path);
}

struct Descriptor {
    int fd;
    ~Descriptor() { close(fd); }
};

void read_all(int fd, u8* to, u64 size, const std::string& path) {
    for (u64 done = 0; done < size;) {
        const ssize_t got = ::read(fd, to + done, std::min<u64>(size - done, u64{1} << 30));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fail_io("cannot read ", path);
        done += static_cast<u64>(got);
    }
}

Scratch& thread_scratch() {
    thread_local Scratch scratch;
    return scratch;
}

}  // namespace

Index::Index(Header header, std::array<Buffer, SECTION_COUNT> sections)
    : header_(header), where_("built index"), built_(std::move(sections)), kernels_(&best_kernels()),
      pool_(std::make_shared<Pool>(0)) {
    for (unsigned k = 0; k < SECTION_COUNT; ++k) sections_[k] = {built_[k].data(), built_[k].size()};
    view_ = make_view(header_, sections_, where_);
}

Index::Index(const std::string& path, bool map)
    : where_(path), kernels_(&best_kernels()), pool_(std::make_shared<Pool>(0)) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail_io("", path);
    const Descriptor closer{fd};
    struct stat info {};
    if (fstat(fd, &info) != 0) fail_io("", path);
    if (!S_ISREG(info.st_mode)) throw FormatError(path + ": not a regular file, so it is no index");
    image_size_ = static_cast<u64>(info.st_size);
    if (image_size_ == 0) throw FormatError(path + ": the file is empty, so it is no index or was cut short");
    if (map) {
        void* at = mmap(nullptr, image_size_, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) fail_io("cannot map ", path);
        image_ = static_cast<const u8*>(at);
        mapped_ = true;
#ifdef MADV_HUGEPAGE
        madvise(at, image_size_, MADV_HUGEPAGE);
#endif
    } else {
        read_.resize(image_size_);
        read_all(fd, read_.data(), image_size_, path);
        image_ = read_.data();
    }
    try {
        header_ = open_image(image_, image_size_, where_, sections_);
        view_ = make_view(header_, sections_, where_);
    } catch (...) {
        if (mapped_) munmap(const_cast<u8*>(image_), image_size_);
        throw;
    }
}

Index::~Index() {
    if (mapped_) munmap(const_cast<u8*>(image_), image_size_);
}

void Index::use_kernels(const std::string& name) {
    const Kernels& best = best_kernels();
    if (name == best.name)
        kernels_ = &best;
    else if (name == base_kernels.name)
        kernels_ = &base_kernels;
    else
        throw QueryError("this processor has no kernels named '" + name + "', it has '" + best.name + "' and 'base'");
}

std::string Index::tokenizer() const {
    const Section& s = sections_[TOKENIZER];
    return s.size ? std::string(reinterpret_cast<const char*>(s.data), s.size) : std::string();
}

std::string Index::doc_id(u64 doc) const {
    check_doc(static_cast<i64>(doc));
    if (!(header_.flags & HAS_IDS)) return std::to_string(doc);
    const u8* offsets = sections_[ID_OFFSETS].data;
    const u64 from = read_bits(offsets, doc * view_.id_bits, view_.id_bits);
    const u64 to = read_bits(offsets, (doc + 1) * view_.id_bits, view_.id_bits);
    if (from > to || to > sections_[IDS].size)
        throw CorruptError(where_ + ": section 'id_offsets' is damaged at document " + std::to_string(doc) +
                           "; build the index again");
    return std::string(reinterpret_cast<const char*>(sections_[IDS].data) + from, to - from);
}

void Index::verify() const {
    if (image_) verify_image(image_, image_size_, where_);
}

void Index::write(int descriptor) const {
    write_image(header_, sections_, [descriptor](const void* data, u64 size) {
        const u8* at = static_cast<const u8*>(data);
        while (size) {
            const ssize_t done = ::write(descriptor, at, std::min<u64>(size, u64{1} << 30));
            if (done < 0 && errno == EINTR) continue;
            if (done < 0) throw std::system_error(errno, std::generic_category());
            at += done;
            size -= static_cast<u64>(done);
        }
    });
}

void Index::check_span(i64 lo, i64 hi) const {
    if (lo < 0 || lo > hi || static_cast<u64>(hi) > view_.n_rows)
        throw QueryError("span [" + std::to_string(lo) + ", " + std::to_string(hi) + ") does not fit the " +
                         std::to_string(view_.n_rows) + " rows of this index; use spans of this index only");
}

void Index::check_spans(const i64* lo, const i64* hi, std::size_t count) const {
    for (std::size_t k = 0; k < count; ++k) check_span(lo[k], hi[k]);
}

void Index::check_doc(i64 doc) const {
    if (doc < 0 || static_cast<u64>(doc) >= view_.n_docs)
        throw QueryError("document " + std::to_string(doc) + " is not among the " + std::to_string(view_.n_docs) +
                         " documents of this index");
}

u64 Index::doc_length(u64 doc) const {
    const u64 from = read_bits(view_.starts, doc * view_.row_bits, view_.row_bits);
    const u64 to = read_bits(view_.starts, (doc + 1) * view_.row_bits, view_.row_bits);
    if (from >= to || to > view_.n_rows)
        throw CorruptError(where_ + ": section 'starts' is damaged at document " + std::to_string(doc) +
                           "; build the index again");
    return to - from - 1;
}

void Index::extend_many(const i64* lo, const i64* hi, const i64* tokens, i64* out_lo, i64* out_hi,
                        std::size_t count) const {
    constexpr std::size_t SHARE = 512;
    pool()->run(ceil_div(count, SHARE), [&](std::size_t piece) {
        const std::size_t from = piece * SHARE, share = std::min(SHARE, count - from);
        kernels_->extend_many(view_, lo + from, hi + from, tokens + from, out_lo + from, out_hi + from, share);
    });
}

void Index::fill_mask(const i64* lo, const i64* hi, std::size_t count, u32* out) const {
    const std::size_t words = ceil_div(view_.vocab_size, 32);
    if (words == 0 || count == 0) return;
    const Twins twins(lo, hi, count);
    const std::vector<u32>&first_rows = twins.first, &next_same = twins.next;
    pool()->run(ceil_div(first_rows.size(), PIECE), [&](std::size_t piece) {
        const std::size_t from = piece * PIECE, to = std::min(first_rows.size(), from + PIECE);
        Job jobs[PIECE];
        std::size_t busy = 0;
        for (std::size_t k = from; k < to; ++k) {
            const u32 row = first_rows[k];
            std::memset(out + row * words, 0, words * 4);
            if (lo[row] < hi[row]) jobs[busy++] = {static_cast<u64>(lo[row]), static_cast<u64>(hi[row]), row};
        }
        kernels_->fill_rows(view_, jobs, busy, out, words, thread_scratch());
        for (std::size_t k = from; k < to; ++k)
            for (u32 row = next_same[first_rows[k]]; row != Twins::END; row = next_same[row])
                std::memcpy(out + row * words, out + first_rows[k] * words, words * 4);
    });
}

void Index::successors_many(const i64* lo, const i64* hi, std::size_t count, SuccessorTable& out) const {
    const std::shared_ptr<Pool> pool = this->pool();
    const std::size_t pieces = ceil_div(count, PIECE);
    std::vector<std::vector<Successor>> walked(pieces);
    std::vector<ListView> lists(count);
    out.offsets.assign(count + 1, 0);
    pool->run(pieces, [&](std::size_t piece) {
        const std::size_t from = piece * PIECE, to = std::min(count, from + PIECE);
        Job jobs[PIECE];
        std::size_t busy = 0;
        for (std::size_t k = from; k < to; ++k) {
            if (lo[k] >= hi[k]) continue;
            const Job job{static_cast<u64>(lo[k]), static_cast<u64>(hi[k]), static_cast<u32>(k)};
            if (find_list(view_, job.lo, job.hi, lists[k]))
                out.offsets[k + 1] = static_cast<i64>(lists[k].size);
            else
                jobs[busy++] = job;
        }
        Scratch& scratch = thread_scratch();
        scratch.found.clear();
        kernels_->walk(view_, jobs, busy, scratch);
        walked[piece] = scratch.found;
        for (const Successor& s : scratch.found) ++out.offsets[s.job() + 1];
    });
    for (std::size_t k = 0; k < count; ++k) out.offsets[k + 1] += out.offsets[k];
    out.allocate(static_cast<std::size_t>(out.offsets[count]));
    pool->run(pieces, [&](std::size_t piece) {
        const std::size_t from = piece * PIECE, to = std::min(count, from + PIECE);
        auto next = walked[piece].begin();
        for (std::size_t k = from; k < to; ++k) {
            i64* tokens = out.tokens + out.offsets[k];
            i64* counts = out.counts + out.offsets[k];
            if (lists[k].size) {
                kernels_->decode(view_, lists[k], tokens, counts);
                continue;
            }
            for (; next != walked[piece].end() && next->job() == k; ++next) {
                *tokens++ = next->token();
                *counts++ = static_cast<i64>(next->count);
            }
        }
    });
}

void Index::extract_many(const u64* docs, const i64* offsets, std::size_t count, i64* out) const {
    constexpr std::size_t SHARE = 256;
    pool()->run(ceil_div(count, SHARE), [&](std::size_t piece) {
        const std::size_t from = piece * SHARE;
        kernels_->extract_many(view_, docs + from, offsets + from, std::min(SHARE, count - from), out);
    });
}

std::vector<u64> Index::positions_of(const u64* rows, std::size_t count) const {
    constexpr std::size_t SHARE = 256;
    std::vector<u64> out(count);
    pool()->run(ceil_div(count, SHARE), [&](std::size_t piece) {
        const std::size_t from = piece * SHARE;
        kernels_->positions(view_, rows + from, out.data() + from, std::min(SHARE, count - from));
    });
    return out;
}

Occurrence Index::occurrence_at(u64 position) const {
    u64 low = 0, high = view_.n_docs;  // the last document that starts at or before the position
    while (high - low > 1) {
        const u64 middle = low + (high - low) / 2;
        if (read_bits(view_.starts, middle * view_.row_bits, view_.row_bits) <= position)
            low = middle;
        else
            high = middle;
    }
    const u64 next = read_bits(view_.starts, (low + 1) * view_.row_bits, view_.row_bits);
    const u64 start = read_bits(view_.starts, low * view_.row_bits, view_.row_bits);
    if (position < start || position >= next)
        throw CorruptError(where_ + ": section 'samples' or 'starts' is damaged; build the index again");
    return {low, next - 1 - position};
}

std::vector<Occurrence> Index::locate_rows(const u64* rows, std::size_t count) const {
    const std::vector<u64> at = positions_of(rows, count);
    std::vector<Occurrence> out(count);
    for (std::size_t k = 0; k < count; ++k) out[k] = occurrence_at(at[k]);
    return out;
}

std::vector<u64> Index::docs_of_rows(const u64* rows, std::size_t count) const {
    std::vector<u64> out(count);
    if (view_.doc_array) {
        for (std::size_t k = 0; k < count; ++k) {
            if (k + 16 < count) prefetch(view_.doc_array + (rows[k + 16] * view_.doc_bits >> 3));
            out[k] = read_bits(view_.doc_array, rows[k] * view_.doc_bits, view_.doc_bits);
            if (out[k] >= view_.n_docs)
                throw CorruptError(where_ + ": section 'doc_array' is damaged; build the index again");
        }
        return out;
    }
    const std::vector<u64> at = positions_of(rows, count);
    for (std::size_t k = 0; k < count; ++k) out[k] = occurrence_at(at[k]).doc;
    return out;
}

}  // namespace gemkr
