#include "builder.hpp"

#include <algorithm>

#include "assemble.hpp"
#include "contexts_build.hpp"
#include "packed.hpp"
#include "plan.hpp"
#include "sorted.hpp"

namespace gemkr {

namespace {

template <class T>
Buffer to_buffer(const std::vector<T>& values) {
    Buffer out(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(out.data(), values.data(), values.size() * sizeof(T));
    return out;
}

Buffer pack(const std::vector<u64>& values, unsigned width) {
    Buffer out(packed_bytes(values.size(), width));
    for (u64 k = 0; k < values.size(); ++k) write_bits(out.data(), k * width, width, values[k]);
    return out;
}

class Builder {
public:
    Builder(TextBuilder& text, const IdTable* ids, const BuildOptions& options)
        : text_(text), ids_(ids), options_(options), pool_(options.threads), n_(text.rows()), starts_(text.starts()),
          row_bits_(bit_width(n_)), doc_bits_(LocateWriter::doc_width(documents())) {}

    std::unique_ptr<Index> run() {
        Header& h = header_;
        h.n_rows = n_;
        h.n_docs = documents();
        h.n_tokens = n_ - h.n_docs;
        h.vocab_size = text_.vocab_size();
        h.sigma = n_ ? text_.tokens().size() : 0;
        h.sample_rate = options_.sample_rate;
        h.flags = options_.doc_array ? u64{HAS_DOC_ARRAY} : 0;
        sections_[STARTS] = pack(starts_, row_bits_);
        if (n_) {
            if (text_.narrow())
                run_rows<u16>();
            else
                run_rows<u32>();
        } else {
            sections_[ALPHABET].resize(h.vocab_size * 4);
            sections_[ENDS] = pack({}, doc_bits_);
            if (options_.doc_array) sections_[DOC_ARRAY] = pack({}, doc_bits_);
        }
        if (ids_) {
            h.flags |= HAS_IDS;
            sections_[ID_OFFSETS] = pack(ids_->offsets(), bit_width(ids_->blob().size()));
            sections_[IDS] = ids_->texts();
            text_.hasher().update(ids_->blob().data(), ids_->blob().size());
        }
        h.corpus_hash = text_.hasher().digest();
        sections_[TOKENIZER].resize(options_.tokenizer.size());
        if (!options_.tokenizer.empty())
            std::memcpy(sections_[TOKENIZER].data(), options_.tokenizer.data(), options_.tokenizer.size());
        report("done", 1);
        return std::make_unique<Index>(header_, std::move(sections_));
    }

private:
    u64 documents() const { return starts_.size() - 1; }
    void report(const char* stage, double share) const {
        if (options_.progress) options_.progress(stage, share);
    }

    template <class Sym>
    void run_rows() {
        book_ = make_codes(text_.counts());
        if (options_.block_rows) return run_blocks<Sym>(options_.block_rows);
        if (!options_.memory_limit) return run_whole<Sym>(~u64{0});
        BuildFacts known = facts();
        u64 block_rows = rows_within(known, options_.memory_limit);
        try {
            if (!block_rows) return run_whole<Sym>(options_.memory_limit - whole_bytes(known));
        } catch (const TiesTooLong&) {
            known.repeats = true;
            block_rows = rows_within(known, options_.memory_limit);
        }
        block_rows ? run_blocks<Sym>(block_rows) : run_whole<Sym>(~u64{0});
    }

    BuildFacts facts() const {
        BuildFacts out{};
        out.rows = n_;
        out.documents = documents();
        for (u64 doc = 0; doc < documents(); ++doc) out.longest = std::max(out.longest, starts_[doc + 1] - starts_[doc]);
        out.text_bytes = text_.held_bytes();
        out.symbol_bytes = text_.narrow() ? 2 : 4;
        out.wide_rows = options_.wide_rows;
        out.sigma = header_.sigma;
        out.vocab = header_.vocab_size;
        out.threads = pool_.threads();
        out.wavelet_bytes = wavelet_bytes(book_);
        out.other_bytes = LocateWriter(n_, documents(), options_.sample_rate, options_.doc_array).bytes();
        for (const Buffer& section : sections_) out.other_bytes += section.size();
        if (ids_) out.other_bytes += 2 * ids_->blob().size() + 16 * documents();
        out.context_budget = context_budget();
        return out;
    }

    template <class Sym>
    void run_whole(u64 tie_bytes) {
        if (options_.wide_rows || n_ >= 0xffffffffu)
            sort_whole<Sym, u64>(tie_bytes);
        else
            sort_whole<Sym, u32>(tie_bytes);
    }

    template <class Sym, class Row>
    void sort_whole(u64 tie_bytes) {
        Buffer bwt(n_ * sizeof(Sym));
        Sym* const symbols = bwt.as<Sym>();
        {
            Buffer rows(n_ * sizeof(Row));
            if (!whole_text_.size()) whole_text_ = text_.take_symbols();
            suffix_sort_bwt<Sym, Row>(whole_text_.as<Sym>(), rows.as<Row>(), symbols, n_, text_.tokens().size(),
                                      pool_.threads(), [this](double share) { report("suffix sort", share); }, tie_bytes);
            whole_text_.release();
            report("samples", 0);
            keep(take_samples(rows.as<Row>(), symbols));
        }
        report("wavelet matrix", 0);
        keep(build_wavelet(symbols, n_, book_, text_.counts(), pool_));
        make_contexts(Transform<Sym>(symbols));
    }

    template <class Sym>
    void run_blocks(u64 block_rows) {
        const BlockOptions options{header_.sigma, options_.sample_rate, options_.doc_array, options_.wide_rows,
                                   pool_.threads()};
        SpillFile transform(options_.work_folder);
        {
            BlockFiles files(options_.work_folder);
            if (whole_text_.size())
                files.text.write(0, whole_text_.data(), n_ * sizeof(Sym));
            else
                text_.take_symbols(files.text);
            whole_text_.release();
            const std::vector<Block> blocks = cut_blocks(starts_, block_rows, options_.sample_rate);
            for (std::size_t k = 0; k < blocks.size(); ++k) {
                const std::string stage = "block " + std::to_string(k + 1) + " of " + std::to_string(blocks.size());
                sort_block<Sym>(blocks[k], starts_, options, files,
                                [&](double share) { report(stage.c_str(), share); });
            }
            SpillFile origins(options_.work_folder);
            merge_blocks<Sym>(blocks, starts_, header_.sigma, options_.work_folder, files, pool_, origins,
                              [this](double share) { report("merge", share); });
            Assembled all = assemble_blocks<Sym>(blocks, files, origins, book_, text_.counts(), options, pool_,
                                                 transform, [this](double share) { report("wavelet matrix", share); });
            keep(std::move(all.locate));
            keep(std::move(all.wavelet));
        }
        make_contexts(Transform<Sym>(transform));
    }

    template <class Sym, class Row>
    LocateSections take_samples(const Row* rows, const Sym* symbols) const {
        const u64 rate = options_.sample_rate;
        const bool power = (rate & (rate - 1)) == 0;
        const DocumentFinder finder(starts_, 0, n_);
        LocateWriter out(n_, documents(), rate, options_.doc_array);
        for (u64 row = 0; row < n_; ++row) {
            const u64 at = rows[row];
            if (power ? (at & (rate - 1)) == 0 : at % rate == 0) out.sample(row, at / rate);
            if (symbols[row] == 0) out.end(finder.at(at));
            if (options_.doc_array) out.doc(finder.at(at));
        }
        return out.finish();
    }

    void keep(LocateSections made) {
        sections_[MARKS] = std::move(made.marks);
        sections_[SAMPLES] = std::move(made.samples);
        sections_[ENDS] = std::move(made.ends);
        sections_[DOC_ARRAY] = std::move(made.docs);
    }
    void keep(WaveletSections made) {
        sections_[WAVELET] = std::move(made.lines);
        sections_[SUPERS] = std::move(made.supers);
    }

    // All that follows from the counts of the symbols.
    void make_tables() {
        header_.level_count = book_.lengths.size();
        header_.leaf_count = book_.leaves.size();
        std::vector<LevelRecord> levels;
        for (std::size_t l = 0; l < book_.lengths.size(); ++l)
            levels.push_back({book_.lengths[l], book_.leaf_begin[l]});
        sections_[LEVELS] = to_buffer(levels);
        sections_[LEAVES] = to_buffer(book_.leaves);
        sections_[TOKENS] = to_buffer(text_.tokens());
        sections_[SYMBOLS] = to_buffer(symbol_records(book_, text_.counts()));
        sections_[ALPHABET].resize(header_.vocab_size * 4);
        u32* alphabet = sections_[ALPHABET].as<u32>();
        for (u32 s = 1; s < text_.tokens().size(); ++s) alphabet[text_.tokens()[s]] = s;
    }

    u64 context_budget() const { return static_cast<u64>(static_cast<double>(n_) * options_.context_bits / 8); }

    template <class Sym>
    void make_contexts(const Transform<Sym>& transform) {
        report("contexts", 0);
        make_tables();
        header_.context_budget = context_budget();
        Sections now;
        for (unsigned k = 0; k < SECTION_COUNT; ++k) now[k] = {sections_[k].data(), sections_[k].size()};
        const View view = make_view(header_, now, "index being built");
        ContextSections contexts = build_contexts(transform, view, best_kernels(), pool_, header_.context_budget,
                                                  [this](double share) { report("contexts", share); });
        header_.context_count = contexts.count;
        header_.context_shift = contexts.shift;
        sections_[CONTEXT_BUCKETS] = std::move(contexts.buckets);
        sections_[CONTEXT_ENTRIES] = std::move(contexts.entries);
        sections_[CONTEXT_LISTS] = std::move(contexts.lists);
    }

    TextBuilder& text_;
    const IdTable* ids_;
    const BuildOptions& options_;
    Pool pool_;
    u64 n_;
    Buffer whole_text_;  // symbols, while it lies in memory
    std::vector<u64>& starts_;
    unsigned row_bits_, doc_bits_;
    CodeBook book_;
    Header header_{};
    std::array<Buffer, SECTION_COUNT> sections_;
};

}  // namespace

std::unique_ptr<Index> build_index(TextBuilder& text, const IdTable* ids, const BuildOptions& options) {
    if (options.sample_rate == 0 || options.sample_rate > u64{1} << 20)
        throw BuildError("sample_rate is " + std::to_string(options.sample_rate) + ", it must be 1 to 1048576");
    if (options.threads > 1024)
        throw BuildError("threads is " + std::to_string(options.threads) + ", at most 1024 make sense");
    if (ids && ids->size() != text.documents())
        throw BuildError("there are " + std::to_string(text.documents()) + " documents but " +
                         std::to_string(ids->size()) + " document ids; give one id per document");
    if (ids) ids->check_distinct();
    text.finish();
    return Builder(text, ids, options).run();
}

}  // namespace gemkr
