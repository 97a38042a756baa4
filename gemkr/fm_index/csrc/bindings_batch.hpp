// Part of bindings.cpp: queries of many states, documents and places. They release the GIL.
#pragma once

#include <optional>

#include "bindings_support.hpp"
#include "documents.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

struct Batch {
    const i64 *lo, *hi;
    std::size_t count;
};

Batch arrays_of(const Longs& lo, const Longs& hi) {
    if (lo.ndim() != 1 || hi.ndim() != 1 || lo.size() != hi.size())
        throw QueryError("lo and hi must be arrays of one dimension and equal length, got " + std::to_string(lo.size()) +
                         " and " + std::to_string(hi.size()) + " values");
    return {lo.data(), hi.data(), static_cast<std::size_t>(lo.size())};
}

Batch batch_of(const Index& index, const Longs& lo, const Longs& hi) {
    const Batch batch = arrays_of(lo, hi);
    index.check_spans(batch.lo, batch.hi, batch.count);
    return batch;
}

// `Searched` is an Index or Segments; the batch has been checked as far as it can be here.
template <class Searched>
py::tuple extend_batch(const Searched& index, const Batch& batch, const Longs& lo, const Longs& tokens) {
    if (tokens.ndim() != 1 || tokens.size() != lo.size())
        throw QueryError("there are " + std::to_string(lo.size()) + " spans but " + std::to_string(tokens.size()) +
                         " tokens; give one token per span");
    py::array_t<i64> out_lo(lo.size()), out_hi(lo.size());
    i64* to_lo = out_lo.mutable_data();
    i64* to_hi = out_hi.mutable_data();
    const i64* token = tokens.data();
    {
        const py::gil_scoped_release release;
        index.extend_many(batch.lo, batch.hi, token, to_lo, to_hi, batch.count);
    }
    return py::make_tuple(std::move(out_lo), std::move(out_hi));
}

template <class Searched>
void fill_batch(const Searched& index, const Batch& batch, u64 vocab_size, py::array& out) {
    const auto words = static_cast<py::ssize_t>(ceil_div(vocab_size, 32));
    const auto rows = static_cast<py::ssize_t>(batch.count);
    const bool fits = out.ndim() == 2 && out.shape(0) == rows && out.shape(1) == words &&
                      out.dtype().equal(py::dtype::of<u32>()) && (out.flags() & py::array::c_style) && out.writeable();
    if (!fits)
        throw QueryError("out must be a writable, contiguous uint32 array of shape (" + std::to_string(rows) + ", " +
                         std::to_string(words) + ")");
    u32* to = static_cast<u32*>(out.mutable_data());
    const py::gil_scoped_release release;
    index.fill_mask(batch.lo, batch.hi, batch.count, to);
}

template <class Searched>
py::tuple successors_batch(const Searched& index, const Batch& batch) {
    SuccessorTable table;
    py::object tokens, counts;
    table.allocate = [&](std::size_t size) {
        const py::gil_scoped_acquire acquire;
        tokens = new_longs(size);
        counts = new_longs(size);
        table.tokens = longs_of(tokens);
        table.counts = longs_of(counts);
    };
    {
        const py::gil_scoped_release release;
        index.successors_many(batch.lo, batch.hi, batch.count, table);
    }
    return py::make_tuple(to_array(table.offsets), tokens, counts);
}

py::tuple extend_many(const Index& index, const Longs& lo, const Longs& hi, const Longs& tokens) {
    return extend_batch(index, batch_of(index, lo, hi), lo, tokens);
}

void fill_mask(const Index& index, const Longs& lo, const Longs& hi, py::array& out) {
    fill_batch(index, batch_of(index, lo, hi), index.view().vocab_size, out);
}

py::tuple next_tokens_many(const Index& index, const Longs& lo, const Longs& hi) {
    return successors_batch(index, batch_of(index, lo, hi));
}

std::size_t limit_of(const std::optional<i64>& limit) {
    if (!limit) return ~std::size_t{0};
    if (*limit < 0) throw QueryError("limit is " + std::to_string(*limit) + ", it must not be negative");
    return static_cast<std::size_t>(*limit);
}

py::tuple documents(const Index& index, const py::object& span, const std::optional<i64>& limit) {
    const SpanObject* s = span_argument(index, span.ptr());
    const i64 lo = s->lo, hi = s->hi;
    const std::size_t most = limit_of(limit);
    DocumentTable table;
    {
        const py::gil_scoped_release release;
        table = count_documents(index, &lo, &hi, 1, most);
    }
    return py::make_tuple(to_array(table.docs), to_array(table.counts));
}

py::tuple documents_many(const Index& index, const Longs& lo, const Longs& hi, const std::optional<i64>& limit) {
    const Batch batch = batch_of(index, lo, hi);
    const std::size_t most = limit_of(limit);
    DocumentTable table;
    {
        const py::gil_scoped_release release;
        table = count_documents(index, batch.lo, batch.hi, batch.count, most);
    }
    return py::make_tuple(to_array(table.offsets), to_array(table.docs), to_array(table.counts));
}

py::array_t<i64> locate(const Index& index, const py::object& span, const std::optional<i64>& limit) {
    const SpanObject* s = span_argument(index, span.ptr());
    const i64 lo = s->lo, hi = s->hi, length = s->length;
    const std::size_t most = limit_of(limit);
    std::vector<Occurrence> found;
    {
        const py::gil_scoped_release release;
        found = sorted_occurrences(index, lo, hi);
    }
    if (found.size() > most) found.resize(most);
    py::array_t<i64> out({static_cast<py::ssize_t>(found.size()), py::ssize_t{2}});
    i64* to = out.mutable_data();
    for (const Occurrence& o : found) {
        if (o.gap < static_cast<u64>(length))
            throw QueryError("the span tells a pattern of " + std::to_string(length) + " tokens but ends " +
                             std::to_string(o.gap) + " tokens into document " + std::to_string(o.doc) +
                             "; take the span from search or extend of this index");
        *to++ = static_cast<i64>(o.doc);
        *to++ = static_cast<i64>(o.gap) - length;
    }
    return out;
}

// The rows as the index takes them.
std::vector<u64> checked_rows(const Index& index, const Longs& rows) {
    std::vector<u64> wanted(rows.data(), rows.data() + rows.size());
    for (std::size_t k = 0; k < wanted.size(); ++k)
        if (wanted[k] >= index.view().n_rows)
            throw QueryError("row " + std::to_string(rows.data()[k]) + " is not among the " +
                             std::to_string(index.view().n_rows) + " rows of this index");
    return wanted;
}

py::tuple locate_rows(const Index& index, const Longs& rows) {
    const std::vector<u64> wanted = checked_rows(index, rows);
    py::object docs = new_longs(wanted.size()), gaps = new_longs(wanted.size());
    i64* to_doc = longs_of(docs);
    i64* to_gap = longs_of(gaps);
    {
        const py::gil_scoped_release release;
        for (const Occurrence& o : index.locate_rows(wanted.data(), wanted.size())) {
            *to_doc++ = static_cast<i64>(o.doc);
            *to_gap++ = static_cast<i64>(o.gap);
        }
    }
    return py::make_tuple(docs, gaps);
}

py::array_t<i64> docs_of_rows(const Index& index, const Longs& rows) {
    const std::vector<u64> wanted = checked_rows(index, rows);
    std::vector<u64> docs;
    {
        const py::gil_scoped_release release;
        docs = index.docs_of_rows(wanted.data(), wanted.size());
    }
    return to_array(docs);
}

py::array_t<i64> extract(const Index& index, i64 doc, i64 start, const std::optional<i64>& stop) {
    index.check_doc(doc);
    const i64 length = static_cast<i64>(index.doc_length(static_cast<u64>(doc)));
    const i64 end = std::min(stop.value_or(length), length);
    if (start < 0 || (stop && *stop < 0))
        throw QueryError("extract() takes start and stop from 0 on, got start = " + std::to_string(start) +
                         (stop ? ", stop = " + std::to_string(*stop) : std::string()));
    py::array_t<i64> out(static_cast<py::ssize_t>(std::max<i64>(0, end - start)));
    if (start >= end) return out;
    i64* to = out.mutable_data();
    const py::gil_scoped_release release;
    index.kernels().extract(index.view(), static_cast<u64>(doc), static_cast<u64>(start), static_cast<u64>(end), to);
    return out;
}

py::tuple extract_many(const Index& index, const Longs& docs) {
    std::vector<u64> wanted(docs.data(), docs.data() + docs.size());
    py::array_t<i64> offsets(docs.size() + 1);
    i64* at = offsets.mutable_data();
    at[0] = 0;
    for (std::size_t k = 0; k < wanted.size(); ++k) {
        index.check_doc(docs.data()[k]);
        at[k + 1] = at[k] + static_cast<i64>(index.doc_length(wanted[k]));
    }
    py::array_t<i64> tokens(static_cast<py::ssize_t>(at[wanted.size()]));
    i64* to = tokens.mutable_data();
    {
        const py::gil_scoped_release release;
        index.extract_many(wanted.data(), at, wanted.size(), to);
    }
    return py::make_tuple(std::move(tokens), std::move(offsets));
}

py::dict info(const Index& index) {
    const Header& h = index.header();
    py::dict sections;
    for (unsigned k = 0; k < SECTION_COUNT; ++k) sections[SECTION_NAMES[k]] = index.sections()[k].size;
    py::dict out;
    out["format_version"] = FORMAT_VERSION;
    out["file_bytes"] = index.image_bytes();
    out["rows"] = h.n_rows;
    out["tokens"] = h.n_tokens;
    out["documents"] = h.n_docs;
    out["vocab_size"] = h.vocab_size;
    out["distinct_tokens"] = h.sigma ? h.sigma - 1 : 0;
    out["sample_rate"] = h.sample_rate;
    out["document_array"] = (h.flags & HAS_DOC_ARRAY) != 0;
    out["levels"] = h.level_count;
    out["contexts"] = h.context_count;
    out["context_budget_bytes"] = h.context_budget;
    out["tokenizer_fingerprint"] = index.tokenizer();
    out["corpus_hash"] = h.corpus_hash;
    out["kernels"] = index.kernels().name;
    out["sections"] = sections;
    return out;
}

}  // namespace

}  // namespace gemkr
