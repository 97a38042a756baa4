// Makes the sections that locate needs, in the order of the rows.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "packed.hpp"
#include "view.hpp"

namespace gemkr {

// The document of a text position in [first, first + rows): every 64th knows its own, from there it is a few steps.
class DocumentFinder {
public:
    // starts: of all documents, and the end of the text.
    DocumentFinder(const std::vector<u64>& starts, u64 first, u64 rows) : starts_(starts), first_(first) {
        near_.reserve(rows / 64 + 1);
        u64 doc = static_cast<u64>(std::upper_bound(starts.begin(), starts.end(), first) - starts.begin()) - 1;
        for (u64 at = first; at < first + rows; at += 64) {
            while (starts[doc + 1] <= at) ++doc;
            near_.push_back(static_cast<u32>(doc));
        }
    }
    u64 at(u64 position) const {
        u64 doc = near_[(position - first_) / 64];
        while (starts_[doc + 1] <= position) ++doc;
        return doc;
    }

private:
    const std::vector<u64>& starts_;
    u64 first_;
    std::vector<u32> near_;
};

struct LocateSections {
    Buffer marks, samples, ends, docs;
};

class LocateWriter {
public:
    LocateWriter(u64 rows, u64 documents, u64 rate, bool doc_array)
        : rows_(rows), sample_bits_(bit_width(rows / rate)), doc_bits_(doc_width(documents)) {
        out_.marks.resize((rows / MARK_BITS + 1) * LINE_WORDS * 8);
        out_.samples.resize(packed_bytes((rows - 1) / rate + 1, sample_bits_));
        out_.ends.resize(packed_bytes(documents, doc_bits_));
        if (doc_array) out_.docs.resize(packed_bytes(rows, doc_bits_));
    }
    static unsigned doc_width(u64 documents) {
        const unsigned bits = bit_width(documents ? documents - 1 : 0);
        return bits ? bits : 1;
    }

    u64 bytes() const { return out_.marks.size() + out_.samples.size() + out_.ends.size() + out_.docs.size(); }

    // A row whose text position is value times the rate; rows ascend.
    void sample(u64 row, u64 value) {
        reach(row / MARK_BITS);
        const u64 offset = row % MARK_BITS;
        line(line_)[1 + (offset >> 6)] |= u64{1} << (offset & 63);
        write_bits(out_.samples.data(), samples_++ * sample_bits_, sample_bits_, value);
    }
    // The next separator of the transform.
    void end(u64 doc) { write_bits(out_.ends.data(), ends_++ * doc_bits_, doc_bits_, doc); }
    // The document of the next row, for a document array.
    void doc(u64 doc) { write_bits(out_.docs.data(), docs_++ * doc_bits_, doc_bits_, doc); }

    LocateSections finish() {
        reach(rows_ / MARK_BITS);
        return std::move(out_);
    }

private:
    u64* line(u64 number) { return out_.marks.as<u64>() + number * LINE_WORDS; }
    void reach(u64 number) {
        while (line_ < number) line(++line_)[0] = samples_;
    }

    u64 rows_, line_ = 0, samples_ = 0, ends_ = 0, docs_ = 0;
    unsigned sample_bits_, doc_bits_;
    LocateSections out_;
};

}  // namespace gemkr
