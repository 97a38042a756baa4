#include "assemble.hpp"

namespace gemkr {

namespace {

// What a block hands out beside its transform, in the order of its rows.
struct Hand {
    Hand(const BlockFiles& files, const Block& block, bool doc_array)
        : samples(files.samples, block.first_sample, block.samples), ends(files.ends, block.first_doc, block.docs),
          docs(files.docs, block.first_row, doc_array ? block.rows : 0) {
        advance();
    }
    void advance() { sample = samples.left() ? samples.next() : Sample{~u64{0}, 0}; }

    SpillReader<Sample> samples;
    SpillReader<u32> ends, docs;
    Sample sample;  // the next one
    u64 row = 0;
};

}  // namespace

template <class Sym>
Assembled assemble_blocks(const std::vector<Block>& blocks, const BlockFiles& files, const SpillFile& origins,
                          const CodeBook& book, const std::vector<u64>& counts, const BlockOptions& options, Pool& pool,
                          SpillFile& transform, const std::function<void(double)>& progress) {
    const u64 rows = blocks.back().first_row + blocks.back().rows, documents = blocks.back().first_doc + blocks.back().docs;
    Assembled out;
    out.wavelet = wavelet_room(book);
    WaveletWriter digits(book, counts, nullptr, out.wavelet);
    LocateWriter locate(rows, documents, options.sample_rate, options.doc_array);
    MergedRows<Sym> merged(files, blocks.data(), blocks.size(), &origins);
    std::vector<Hand> hands;
    hands.reserve(blocks.size());
    for (const Block& block : blocks) hands.emplace_back(files, block, options.doc_array);
    u64 row = 0;
    double told = 0;
    while (const std::size_t some = merged.next()) {
        const Sym* const symbols = merged.symbols();
        digits.add(symbols, some);
        transform.write(row * sizeof(Sym), symbols, some * sizeof(Sym));
        for (std::size_t k = 0; k < some; ++k, ++row) {
            Hand& hand = hands[merged.origins()[k]];
            if (hand.row++ == hand.sample.row) {
                locate.sample(row, hand.sample.value);
                hand.advance();
            }
            if (symbols[k] == 0) locate.end(hand.ends.next());
            if (options.doc_array) locate.doc(hand.docs.next());
        }
        const double share = static_cast<double>(row) / static_cast<double>(rows);
        if (share >= told + 0.01) progress(told = share);
    }
    digits.flush();
    count_digits(book, out.wavelet, pool);
    out.locate = locate.finish();
    return out;
}

template Assembled assemble_blocks<u16>(const std::vector<Block>&, const BlockFiles&, const SpillFile&, const CodeBook&,
                                        const std::vector<u64>&, const BlockOptions&, Pool&, SpillFile&,
                                        const std::function<void(double)>&);
template Assembled assemble_blocks<u32>(const std::vector<Block>&, const BlockFiles&, const SpillFile&, const CodeBook&,
                                        const std::vector<u64>&, const BlockOptions&, Pool&, SpillFile&,
                                        const std::function<void(double)>&);

}  // namespace gemkr
