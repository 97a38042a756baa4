#include "blocks.hpp"

#include <algorithm>

#include "buffer.hpp"
#include "locate_build.hpp"
#include "sorted.hpp"

namespace gemkr {

namespace {

template <class Sym, class Row>
void sort_rows(const Block& block, const std::vector<u64>& starts, const BlockOptions& options, BlockFiles& files,
               const std::function<void(double)>& progress) {
    Buffer transform(block.rows * sizeof(Sym)), rows(block.rows * sizeof(Row));
    Sym* const symbols = transform.as<Sym>();
    {
        Buffer text(block.rows * sizeof(Sym));
        files.text.read(block.first_row * sizeof(Sym), text.data(), block.rows * sizeof(Sym));
        suffix_sort_bwt<Sym, Row>(text.as<Sym>(), rows.as<Row>(), symbols, block.rows, options.sigma, options.threads,
                                  progress);
    }
    files.transform.write(block.first_row * sizeof(Sym), symbols, block.rows * sizeof(Sym));
    const DocumentFinder documents(starts, block.first_row, block.rows);
    SpillWriter<Sample> samples(files.samples, block.first_sample);
    SpillWriter<u32> ends(files.ends, block.first_doc), docs(files.docs, block.first_row);
    for (u64 row = 0; row < block.rows; ++row) {
        const u64 at = block.first_row + rows.as<Row>()[row];
        if (at % options.sample_rate == 0) samples.put({row, at / options.sample_rate});
        if (symbols[row] == 0) ends.put(static_cast<u32>(documents.at(at)));
        if (options.doc_array) docs.put(static_cast<u32>(documents.at(at)));
    }
    samples.flush();
    ends.flush();
    docs.flush();
}

}  // namespace

std::vector<Block> cut_blocks(const std::vector<u64>& starts, u64 block_rows, u64 sample_rate) {
    const u64 documents = starts.size() - 1;
    for (;; block_rows *= 2) {
        std::vector<Block> blocks;
        for (u64 doc = 0; doc < documents;) {
            u64 stop = doc + 1;
            while (stop < documents && starts[stop + 1] - starts[doc] <= block_rows) ++stop;
            const u64 first = ceil_div(starts[doc], sample_rate), end = ceil_div(starts[stop], sample_rate);
            blocks.push_back({starts[doc], starts[stop] - starts[doc], doc, stop - doc, first, end - first});
            doc = stop;
        }
        if (blocks.size() <= MAX_BLOCKS) return blocks;
    }
}

template <class Sym>
void sort_block(const Block& block, const std::vector<u64>& starts, const BlockOptions& options, BlockFiles& files,
                const std::function<void(double)>& progress) {
    if (options.wide_rows || block.rows >= 0xffffffffu)
        sort_rows<Sym, u64>(block, starts, options, files, progress);
    else
        sort_rows<Sym, u32>(block, starts, options, files, progress);
}

template void sort_block<u16>(const Block&, const std::vector<u64>&, const BlockOptions&, BlockFiles&,
                              const std::function<void(double)>&);
template void sort_block<u32>(const Block&, const std::vector<u64>&, const BlockOptions&, BlockFiles&,
                              const std::function<void(double)>&);

}  // namespace gemkr
