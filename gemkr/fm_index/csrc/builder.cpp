#include "builder.hpp"

#include <algorithm>
#include <numeric>

#include "contexts_build.hpp"
#include "packed.hpp"
#include "suffix_sort.hpp"
#include "wavelet_build.hpp"

namespace gemkr {

void IdTable::add(const char* text, std::size_t size) {
    texts_.append(text, size);
    offsets_.push_back(texts_.size());
}

void IdTable::check_distinct() const {
    const u64 count = size();
    auto text_of = [&](u64 k) { return texts_.substr(offsets_[k], offsets_[k + 1] - offsets_[k]); };
    std::vector<std::pair<u64, u64>> hashes(count);
    for (u64 k = 0; k < count; ++k)
        hashes[k] = {hash_bytes(texts_.data() + offsets_[k], offsets_[k + 1] - offsets_[k]), k};
    std::sort(hashes.begin(), hashes.end());
    for (u64 k = 0; k < count; ++k) {
        for (u64 j = k + 1; j < count && hashes[j].first == hashes[k].first; ++j) {
            if (text_of(hashes[j].second) != text_of(hashes[k].second)) continue;
            throw BuildError("document id '" + text_of(hashes[k].second) + "' is given to document " +
                             std::to_string(hashes[k].second) + " and to document " +
                             std::to_string(hashes[j].second) + "; ids must be distinct");
        }
    }
}

Buffer IdTable::texts() const {
    Buffer out(texts_.size());
    if (!texts_.empty()) std::memcpy(out.data(), texts_.data(), texts_.size());
    return out;
}

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
    Builder(TextBuilder& text, const BuildOptions& options)
        : text_(text), options_(options), pool_(options.threads), n_(text.rows()), starts_(text.starts()),
          row_bits_(bit_width(n_)), doc_bits_(std::max(1u, bit_width(documents() ? documents() - 1 : 0))) {}

    std::unique_ptr<Index> run(const IdTable* ids) {
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
            const bool wide = options_.wide_rows || n_ >= 0xffffffffu;
            if (text_.narrow())
                wide ? run_rows<u16, u64>() : run_rows<u16, u32>();
            else
                wide ? run_rows<u32, u64>() : run_rows<u32, u32>();
        } else {
            sections_[ALPHABET].resize(h.vocab_size * 4);
            sections_[ENDS] = pack({}, doc_bits_);
            if (options_.doc_array) sections_[DOC_ARRAY] = pack({}, doc_bits_);
        }
        if (ids) {
            h.flags |= HAS_IDS;
            sections_[ID_OFFSETS] = pack(ids->offsets(), bit_width(ids->blob().size()));
            sections_[IDS] = ids->texts();
            text_.hasher().update(ids->blob().data(), ids->blob().size());
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

    template <class Sym, class Row>
    void run_rows() {
        Buffer bwt(n_ * sizeof(Sym));
        {
            Buffer rows(n_ * sizeof(Row));
            suffix_sort_bwt<Sym, Row>(text_.symbols().as<Sym>(), rows.as<Row>(), bwt.as<Sym>(), n_,
                                      text_.tokens().size(), pool_.threads(),
                                      [this](double share) { report("suffix sort", share); });
            text_.symbols().release();
            report("samples", 0);
            take_samples(rows.as<Row>(), bwt.as<Sym>());
        }
        report("wavelet matrix", 0);
        make_wavelet(bwt.as<Sym>());
        report("contexts", 0);
        make_contexts(bwt.as<Sym>());
    }

    u64 doc_at(u64 position) const {
        return static_cast<u64>(std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin()) - 1;
    }

    template <class Sym, class Row>
    void take_samples(const Row* rows, const Sym* bwt) {
        const u64 rate = options_.sample_rate;
        const unsigned sample_bits = bit_width(n_ / rate);
        Buffer marks((n_ / MARK_BITS + 1) * LINE_WORDS * 8), samples(packed_bytes((n_ - 1) / rate + 1, sample_bits));
        Buffer ends(packed_bytes(documents(), doc_bits_)), docs;
        u64* words = marks.as<u64>();
        u64 sample = 0, end = 0;
        const bool power = (rate & (rate - 1)) == 0;
        for (u64 row = 0, offset = 0; row < n_; ++row, ++offset) {
            if (offset == MARK_BITS) {
                offset = 0;
                words += LINE_WORDS;
                words[0] = sample;
            }
            const u64 at = rows[row];
            if (power ? (at & (rate - 1)) == 0 : at % rate == 0) {
                words[1 + (offset >> 6)] |= u64{1} << (offset & 63);
                write_bits(samples.data(), sample++ * sample_bits, sample_bits, at / rate);
            }
            if (bwt[row] == 0) write_bits(ends.data(), end++ * doc_bits_, doc_bits_, doc_at(at));
        }
        if (n_ % MARK_BITS == 0) words[LINE_WORDS] = sample;
        if (options_.doc_array) {
            // Every 64th position knows its document; from there it is a few steps.
            std::vector<u32> near(n_ / 64 + 1);
            for (u64 k = 0, doc = 0; k < near.size(); ++k) {
                while (doc + 1 < documents() && starts_[doc + 1] <= k * 64) ++doc;
                near[k] = static_cast<u32>(doc);
            }
            docs.resize(packed_bytes(n_, doc_bits_));
            for (u64 row = 0; row < n_; ++row) {
                const u64 at = rows[row];
                u64 doc = near[at / 64];
                while (starts_[doc + 1] <= at) ++doc;
                write_bits(docs.data(), row * doc_bits_, doc_bits_, doc);
            }
        }
        sections_[MARKS] = std::move(marks);
        sections_[SAMPLES] = std::move(samples);
        sections_[ENDS] = std::move(ends);
        sections_[DOC_ARRAY] = std::move(docs);
    }

    template <class Sym>
    void make_wavelet(const Sym* bwt) {
        const std::vector<u64>& counts = text_.counts();
        const CodeBook book = make_codes(counts);
        WaveletSections wavelet = build_wavelet(bwt, book, pool_);
        sections_[WAVELET] = std::move(wavelet.lines);
        sections_[SUPERS] = std::move(wavelet.supers);
        header_.level_count = book.lengths.size();
        header_.leaf_count = book.leaves.size();
        std::vector<LevelRecord> levels;
        for (std::size_t l = 0; l < book.lengths.size(); ++l) levels.push_back({book.lengths[l], book.leaf_begin[l]});
        sections_[LEVELS] = to_buffer(levels);
        sections_[LEAVES] = to_buffer(book.leaves);
        sections_[TOKENS] = to_buffer(text_.tokens());
        std::vector<SymbolRecord> symbols;
        u64 first = 0;
        for (std::size_t s = 0; s < counts.size(); ++s) {
            symbols.push_back({book.codes[s], static_cast<i64>(first - book.leaf_start[s])});
            first += counts[s];
        }
        sections_[SYMBOLS] = to_buffer(symbols);
        sections_[ALPHABET].resize(header_.vocab_size * 4);
        u32* alphabet = sections_[ALPHABET].as<u32>();
        for (u32 s = 1; s < text_.tokens().size(); ++s) alphabet[text_.tokens()[s]] = s;
    }

    template <class Sym>
    void make_contexts(const Sym* bwt) {
        const u64 budget = static_cast<u64>(static_cast<double>(n_) * options_.context_bits / 8);
        header_.context_budget = budget;
        Sections now;
        for (unsigned k = 0; k < SECTION_COUNT; ++k) now[k] = {sections_[k].data(), sections_[k].size()};
        const View view = make_view(header_, now, "index being built");
        ContextSections contexts = build_contexts(bwt, view, best_kernels(), budget);
        header_.context_count = contexts.count;
        header_.context_shift = contexts.shift;
        sections_[CONTEXT_BUCKETS] = std::move(contexts.buckets);
        sections_[CONTEXT_ENTRIES] = std::move(contexts.entries);
        sections_[CONTEXT_LISTS] = std::move(contexts.lists);
    }

    TextBuilder& text_;
    const BuildOptions& options_;
    Pool pool_;
    u64 n_;
    std::vector<u64>& starts_;
    unsigned row_bits_, doc_bits_;
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
    return Builder(text, options).run(ids);
}

}  // namespace gemkr
