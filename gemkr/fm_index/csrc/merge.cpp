#include "merge.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "kernels.hpp"
#include "wavelet_build.hpp"

namespace gemkr {

template <class Sym>
MergedRows<Sym>::MergedRows(const BlockFiles& files, const Block* blocks, std::size_t count, const SpillFile* origins)
    : symbols_(MOST), origins_(MOST, 0) {
    u64 rows = 0;
    for (std::size_t k = 0; k < count; ++k) {
        blocks_.emplace_back(files.transform, blocks[k].first_row, blocks[k].rows);
        rows += blocks[k].rows;
    }
    if (count > 1) order_.emplace_back(*origins, 0, rows);
}

template <class Sym>
std::size_t MergedRows<Sym>::next() {
    if (order_.empty()) {
        const std::size_t rows = static_cast<std::size_t>(std::min<u64>(blocks_[0].left(), MOST));
        std::copy_n(blocks_[0].ahead(rows), rows, symbols_.data());
        blocks_[0].skip(rows);
        return rows;
    }
    const std::size_t rows = static_cast<std::size_t>(std::min<u64>(order_[0].left(), MOST));
    std::copy_n(order_[0].ahead(rows), rows, origins_.data());
    order_[0].skip(rows);
    const Sym* from[MAX_BLOCKS];
    const Sym* begin[MAX_BLOCKS];
    for (std::size_t k = 0; k < blocks_.size(); ++k)
        begin[k] = from[k] = blocks_[k].ahead(static_cast<std::size_t>(std::min<u64>(blocks_[k].left(), rows)));
    for (std::size_t row = 0; row < rows; ++row) symbols_[row] = *from[origins_[row]]++;
    for (std::size_t k = 0; k < blocks_.size(); ++k) blocks_[k].skip(static_cast<std::size_t>(from[k] - begin[k]));
    return rows;
}

namespace {

// The wavelet matrix of the joined blocks, as far as a backward step needs it.
class Joined {
public:
    template <class Sym>
    Joined(MergedRows<Sym> rows, u64 documents, const std::vector<u64>& counts, Pool& pool,
           const std::function<void()>& alive)
        : book_(make_codes(counts)), wavelet_(wavelet_room(book_)), symbols_(symbol_records(book_, counts)) {
        WaveletWriter writer(book_, counts, nullptr, wavelet_);
        while (const std::size_t some = rows.next()) {
            writer.add(rows.symbols(), some);
            alive();
        }
        writer.flush();
        count_digits(book_, wavelet_, pool);
        view_.n_docs = documents;
        view_.symbols = symbols_.data();
        view_.level_count = static_cast<unsigned>(book_.lengths.size());
        const u64* line = wavelet_.lines.as<u64>();
        const u64* super = wavelet_.supers.as<u64>();
        for (unsigned l = 0; l < view_.level_count; ++l) {
            view_.levels[l].length = book_.lengths[l];
            view_.levels[l].lines = line;
            view_.levels[l].supers = super;
            line += view_.level_lines(l) * LINE_WORDS;
            super += ceil_div(view_.level_lines(l), SUPER_LINES) * 4;
        }
    }
    const View& view() const { return view_; }

private:
    CodeBook book_;
    WaveletSections wavelet_;
    std::vector<SymbolRecord> symbols_;
    View view_;
};

// How many suffixes of a block fall into each gap of the joined rows.
struct Gaps {
    explicit Gaps(u64 rows) : bytes(rows + 1) {}
    Buffer bytes;               // modulo 256
    std::vector<u64> wrapped;  // a gap per 256 that its byte does not tell
};

// Counts the symbols of the block on the way.
template <class Sym>
void count_gaps(const View& view, const Block& block, const std::vector<u64>& starts, const SpillFile& text, Pool& pool,
                std::vector<u64>& counts, Gaps& gaps, const std::function<void(u64)>& done) {
    std::vector<Sym> narrow;
    std::vector<u32> symbols;
    std::vector<u64> borders;
    const u64 end = block.first_doc + block.docs;
    for (u64 doc = block.first_doc; doc < end;) {
        const u64 first = starts[doc];
        borders.assign(1, 0);
        do borders.push_back(starts[++doc] - first);
        while (doc < end && starts[doc + 1] - first <= MERGE_CHUNK_ROWS * pool.threads());
        const std::size_t rows = static_cast<std::size_t>(borders.back());
        narrow.resize(std::max(narrow.size(), rows));
        symbols.resize(narrow.size());
        text.read(first * sizeof(Sym), narrow.data(), rows * sizeof(Sym));
        for (std::size_t row = 0; row < rows; ++row) ++counts[symbols[row] = narrow[row]];
        // Every thread takes the documents that begin in its share of the rows.
        const std::size_t threads = pool.threads();
        std::vector<std::vector<u64>> wrapped(threads);
        auto first_of = [&](std::size_t piece) {
            return static_cast<std::size_t>(
                std::lower_bound(borders.begin(), borders.end() - 1, rows * piece / threads) - borders.begin());
        };
        pool.run(threads, [&](std::size_t piece) {
            const std::size_t from = first_of(piece), to = piece + 1 == threads ? borders.size() - 1 : first_of(piece + 1);
            best_kernels().insert(view, symbols.data(), borders.data() + from, to - from, gaps.bytes.data(),
                                  wrapped[piece]);
        });
        for (const auto& own : wrapped) gaps.wrapped.insert(gaps.wrapped.end(), own.begin(), own.end());
        done(rows);
    }
    std::sort(gaps.wrapped.begin(), gaps.wrapped.end());
}

// Appends to a file of bytes, many at a time.
class ByteWriter {
public:
    explicit ByteWriter(SpillFile& file) : file_(file), buffer_(ROOM + 16) {}
    void repeat(u8 value, u64 times) {
        if (times <= 8) {  // nearly always
            const u64 eight = 0x0101010101010101u * value;
            std::memcpy(buffer_.data() + size_, &eight, 8);
            size_ += times;
            if (size_ >= ROOM) flush();
            return;
        }
        for (; times > 8; times -= 8) repeat(value, 8);
        repeat(value, times);
    }
    void flush() {
        file_.write(at_, buffer_.data(), size_);
        at_ += size_;
        size_ = 0;
    }

private:
    static constexpr std::size_t ROOM = SPILL_BUFFER_BYTES;
    SpillFile& file_;
    u64 at_ = 0;
    std::vector<u8> buffer_;
    std::size_t size_ = 0;
};

// The order of the joined rows with the rows of block `added` in their gaps.
void insert_rows(const Gaps& gaps, u64 rows, u8 added, const SpillFile* before, SpillFile& after,
                 const std::function<void()>& alive) {
    ByteWriter out(after);
    SpillReader<u8> old(before ? *before : after, 0, before ? rows : 0);
    auto wrapped = gaps.wrapped.begin();
    constexpr std::size_t SOME = 4096;
    const std::vector<u8> zeros(SOME, 0);
    for (u64 first = 0; first < rows; first += SOME) {
        const std::size_t some = static_cast<std::size_t>(std::min<u64>(SOME, rows - first));
        const u8* const origin = before ? old.ahead(some) : zeros.data();
        for (std::size_t k = 0; k < some; ++k) {
            u64 count = gaps.bytes.data()[first + k];
            for (; wrapped != gaps.wrapped.end() && *wrapped == first + k; ++wrapped) count += 256;
            out.repeat(added, count);
            out.repeat(origin[k], 1);
        }
        if (before) old.skip(some);
        alive();
    }
    u64 count = gaps.bytes.data()[rows];
    count += 256 * static_cast<u64>(gaps.wrapped.end() - wrapped);
    out.repeat(added, count);
    out.flush();
}

}  // namespace

template <class Sym>
void merge_blocks(const std::vector<Block>& blocks, const std::vector<u64>& starts, u64 sigma, const std::string& folder,
                  const BlockFiles& files, Pool& pool, SpillFile& origins,
                  const std::function<void(double)>& progress) {
    std::vector<u64> counts(sigma, 0);
    MergedRows<Sym> first(files, blocks.data(), 1, nullptr);
    while (const std::size_t some = first.next())
        for (std::size_t row = 0; row < some; ++row) ++counts[first.symbols()[row]];
    SpillFile other(folder);
    // Written in turn, so that the last one is `origins`.
    SpillFile* before = blocks.size() % 2 ? &origins : &other;
    SpillFile* after = blocks.size() % 2 ? &other : &origins;
    u64 rows = blocks[0].rows, searched = 0, turns = 0;
    const double to_search = static_cast<double>(blocks.back().first_row + blocks.back().rows - rows);
    auto tell = [&] { progress(static_cast<double>(searched) / to_search); };
    auto alive = [&] {  // often enough to be stopped within a moment
        if (++turns % 256 == 0) tell();
    };
    for (std::size_t k = 1; k < blocks.size(); ++k) {
        Gaps gaps(rows);
        {
            const Joined joined(MergedRows<Sym>(files, blocks.data(), k, before), blocks[k].first_doc, counts, pool, alive);
            count_gaps<Sym>(joined.view(), blocks[k], starts, files.text, pool, counts, gaps, [&](u64 some) {
                searched += some;
                tell();
            });
        }
        insert_rows(gaps, rows, static_cast<u8>(k), k > 1 ? before : nullptr, *after, alive);
        rows += blocks[k].rows;
        std::swap(before, after);
    }
}

template class MergedRows<u16>;
template class MergedRows<u32>;
template void merge_blocks<u16>(const std::vector<Block>&, const std::vector<u64>&, u64, const std::string&,
                                const BlockFiles&, Pool&, SpillFile&, const std::function<void(double)>&);
template void merge_blocks<u32>(const std::vector<Block>&, const std::vector<u64>&, u64, const std::string&,
                                const BlockFiles&, Pool&, SpillFile&, const std::function<void(double)>&);

}  // namespace gemkr
