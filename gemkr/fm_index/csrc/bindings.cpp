// The Python face of the core. The only file that includes pybind11. Single-state queries are plain C functions of
// CPython, because there the call costs more than the work; they keep the GIL, everything else releases it.
#include "span.hpp"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <system_error>

#include "builder.hpp"
#include "contexts.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

using Longs = py::array_t<i64, py::array::c_style | py::array::forcecast>;

py::object error_class(const char* name) { return py::module_::import("gemkr.fm_index.errors").attr(name); }

// Turns the exception in flight into a Python error.
void set_python_error() {
    auto set = [](const char* name, const std::exception& e) {
        PyErr_SetString(error_class(name).ptr(), e.what());
    };
    try {
        throw;
    } catch (py::error_already_set& e) {
        e.restore();
    } catch (const py::builtin_exception& e) {
        e.set_error();
    } catch (const BuildError& e) {
        set("IndexBuildError", e);
    } catch (const QueryError& e) {
        set("IndexQueryError", e);
    } catch (const FormatError& e) {
        set("IndexFormatError", e);
    } catch (const CorruptError& e) {
        set("IndexCorruptError", e);
    } catch (const std::system_error& e) {
        py::object args = py::make_tuple(e.code().value(), e.what());
        PyErr_SetObject(PyExc_OSError, args.ptr());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
    }
}

template <class T>
py::array_t<i64> to_array(const std::vector<T>& values) {
    py::array_t<i64> out(static_cast<py::ssize_t>(values.size()));
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
}

// --- documents in ----------------------------------------------------------------------------------------

struct PyBuilder {
    explicit PyBuilder(u64 vocab_limit) : text(vocab_limit) {}
    TextBuilder text;
    IdTable ids;
    bool has_ids = false;
};

i64 token_of(PyObject* item, u64 doc) {
    PyObject* number = PyNumber_Index(item);
    if (!number) {
        PyErr_Clear();
        throw BuildError("document " + std::to_string(doc) + " holds " +
                         std::string(py::str(py::repr(py::handle(item)))) + ", but tokens are integers");
    }
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    return overflow ? (overflow < 0 ? -1 : std::numeric_limits<i64>::max()) : value;
}

// Calls use(pointer to the first token) with the array's own integer type.
template <class Use>
void with_integers(const py::array& tokens, u64 doc, Use&& use) {
    const char kind = tokens.dtype().kind();
    const auto size = tokens.itemsize();
    const void* data = tokens.data();
    if (kind == 'u' && size == 1) return use(static_cast<const u8*>(data));
    if (kind == 'u' && size == 2) return use(static_cast<const u16*>(data));
    if (kind == 'u' && size == 4) return use(static_cast<const u32*>(data));
    if (kind == 'u' && size == 8) return use(static_cast<const u64*>(data));
    if (kind == 'i' && size == 1) return use(static_cast<const std::int8_t*>(data));
    if (kind == 'i' && size == 2) return use(static_cast<const std::int16_t*>(data));
    if (kind == 'i' && size == 4) return use(static_cast<const std::int32_t*>(data));
    if (kind == 'i' && size == 8) return use(static_cast<const i64*>(data));
    throw BuildError("document " + std::to_string(doc) + " is an array of " +
                     std::string(py::str(tokens.dtype().attr("name"))) + ", but tokens are integers");
}

template <class T>
i64 checked(T token) {
    if constexpr (std::is_same_v<T, u64>)
        return token > static_cast<u64>(std::numeric_limits<i64>::max()) ? std::numeric_limits<i64>::max()
                                                                         : static_cast<i64>(token);
    else
        return static_cast<i64>(token);
}

py::array contiguous(const py::array& tokens) {
    return py::module_::import("numpy").attr("ascontiguousarray")(tokens);
}

void add_document(PyBuilder& builder, const py::handle& tokens) {
    const u64 doc = builder.text.documents();
    PyObject* object = tokens.ptr();
    if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) {
        PyObject** items = PySequence_Fast_ITEMS(object);
        const u64 size = static_cast<u64>(PySequence_Fast_GET_SIZE(object));
        for (u64 k = 0; k < size; ++k)
            if (!PyLong_CheckExact(items[k])) token_of(items[k], doc);  // before anything is changed
        builder.text.add(size, [&](u64 k) { return token_of(items[k], doc); });
        return;
    }
    if (!py::isinstance<py::array>(tokens)) {
        PyObject* list = py::isinstance<py::str>(tokens) ? nullptr : PySequence_List(object);
        if (!list) {
            PyErr_Clear();
            throw BuildError("document " + std::to_string(doc) + " is a " +
                             std::string(py::str(py::type::handle_of(tokens).attr("__name__"))) +
                             ", not a sequence of token ids");
        }
        add_document(builder, py::reinterpret_steal<py::list>(list));
        return;
    }
    const py::array array = contiguous(py::reinterpret_borrow<py::array>(tokens));
    if (array.ndim() != 1)
        throw BuildError("document " + std::to_string(doc) + " is an array of " + std::to_string(array.ndim()) +
                         " dimensions, not of one");
    if (array.size() == 0) return builder.text.add(0, [](u64) { return i64{0}; });
    with_integers(array, doc, [&](const auto* at) {
        builder.text.add(static_cast<u64>(array.size()), [&](u64 k) { return checked(at[k]); });
    });
}

void add_flat(PyBuilder& builder, const py::array& tokens, const Longs& offsets) {
    const py::array flat = contiguous(tokens);
    if (flat.ndim() != 1 || offsets.ndim() != 1 || offsets.size() == 0)
        throw BuildError("tokens and offsets must be arrays of one dimension, offsets with one entry more than documents");
    const i64* border = offsets.data();
    const i64 documents = offsets.size() - 1;
    bool ordered = border[0] == 0 && border[documents] == flat.size();
    for (i64 d = 0; d < documents; ++d) ordered = ordered && border[d] <= border[d + 1];
    if (!ordered)
        throw BuildError("offsets must ascend from 0 to the number of tokens, which is " + std::to_string(flat.size()));
    auto add_all = [&](const auto* at) {
        const py::gil_scoped_release release;
        builder.text.reserve(static_cast<u64>(flat.size() + documents));
        for (i64 d = 0; d < documents; ++d) {
            const auto* from = at + border[d];
            builder.text.add(static_cast<u64>(border[d + 1] - border[d]), [from](u64 k) { return checked(from[k]); });
        }
    };
    if (flat.size() == 0)
        add_all(static_cast<const i64*>(nullptr));
    else
        with_integers(flat, 0, add_all);
}

std::unique_ptr<Index> finish_build(PyBuilder& builder, u64 sample_rate, bool doc_array, unsigned threads,
                                    double context_bits, const std::string& tokenizer, bool wide_rows,
                                    const py::object& progress) {
    BuildOptions options;
    options.sample_rate = sample_rate;
    options.doc_array = doc_array;
    options.threads = threads;
    options.context_bits = context_bits;
    options.tokenizer = tokenizer;
    options.wide_rows = wide_rows;
    options.progress = [&progress](const char* stage, double share) {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!progress.is_none()) progress(stage, share);
    };
    const py::gil_scoped_release release;
    return build_index(builder.text, builder.has_ids ? &builder.ids : nullptr, options);
}

// --- single-state queries, in plain C --------------------------------------------------------------------

Index* self_index(PyObject* self) {
    auto* instance = reinterpret_cast<py::detail::instance*>(self);
    auto* index = instance->simple_layout ? static_cast<Index*>(instance->simple_value_holder[0]) : nullptr;
    if (!index) throw QueryError("this index was never opened; use FMIndex.build or FMIndex.load");
    return index;
}

const SpanObject* span_argument(const Index& index, PyObject* object) {
    if (Py_TYPE(object) != span_type())
        throw py::type_error("expected a Span, got " +
                             std::string(py::str(py::type::handle_of(py::handle(object)).attr("__name__"))));
    const auto* span = reinterpret_cast<SpanObject*>(object);
    index.check_span(span->lo, span->hi);
    return span;
}

u64 token_argument(PyObject* object) {
    if (PyLong_CheckExact(object)) {
        int overflow = 0;
        const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
        return overflow || value < 0 ? ~u64{0} : static_cast<u64>(value);
    }
    PyObject* number = PyNumber_Index(object);
    if (!number) throw py::error_already_set();
    const py::object keep = py::reinterpret_steal<py::object>(number);
    return token_argument(number);
}

void need(Py_ssize_t found, Py_ssize_t wanted, const char* name) {
    if (found != wanted)
        throw py::type_error(std::string(name) + "() takes " + std::to_string(wanted) + " arguments, got " +
                             std::to_string(found));
}

template <class Body>
PyObject* guarded(Body&& body) {
    try {
        return body();
    } catch (...) {
        set_python_error();
        return nullptr;
    }
}

// A fresh int64 array, made without pybind11's search for the type.
py::object new_longs(std::size_t size) {
    static const py::dtype* const type = new py::dtype(py::dtype::of<i64>());
    const auto& api = py::detail::npy_api::get();
    Py_INCREF(type->ptr());
    const Py_intptr_t shape = static_cast<Py_intptr_t>(size);
    PyObject* array = api.PyArray_NewFromDescr_(api.PyArray_Type_, type->ptr(), 1, &shape, nullptr, nullptr, 0, nullptr);
    if (!array) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(array);
}

i64* longs_of(const py::object& array) {
    return reinterpret_cast<i64*>(py::detail::array_proxy(array.ptr())->data);
}

PyObject* query_extend(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    return guarded([&] {
        need(count, 2, "extend");
        const Index& index = *self_index(self);
        const SpanObject* span = span_argument(index, args[0]);
        u64 lo = static_cast<u64>(span->lo), hi = static_cast<u64>(span->hi);
        if (!index.kernels().extend(index.view(), lo, hi, token_argument(args[1]))) lo = hi = 0;
        return make_span(static_cast<i64>(lo), static_cast<i64>(hi), span->length + 1);
    });
}

PyObject* query_search(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    return guarded([&]() -> PyObject* {
        need(count, 1, "search");
        const Index& index = *self_index(self);
        PyObject* items = PySequence_Fast(args[0], "search() takes a sequence of token ids");
        if (!items) throw py::error_already_set();
        const py::object keep = py::reinterpret_steal<py::object>(items);
        u64 lo = 0, hi = index.view().n_rows;
        const Py_ssize_t length = PySequence_Fast_GET_SIZE(items);
        for (Py_ssize_t k = 0; k < length; ++k) {
            const u64 token = token_argument(PySequence_Fast_GET_ITEM(items, k));
            if (!index.kernels().extend(index.view(), lo, hi, token)) lo = hi = 0;
        }
        return make_span(static_cast<i64>(lo), static_cast<i64>(hi), length);
    });
}

PyObject* query_next_tokens(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    return guarded([&]() -> PyObject* {
        need(count, 1, "next_tokens");
        const Index& index = *self_index(self);
        const SpanObject* span = span_argument(index, args[0]);
        const Job job{static_cast<u64>(span->lo), static_cast<u64>(span->hi), 0};
        ListView list;
        if (job.lo < job.hi && find_list(index.view(), job.lo, job.hi, list)) {
            const py::object tokens = new_longs(list.size), counts = new_longs(list.size);
            index.kernels().decode(index.view(), list, longs_of(tokens), longs_of(counts));
            return PyTuple_Pack(2, tokens.ptr(), counts.ptr());
        }
        thread_local Scratch scratch;
        scratch.found.clear();
        if (job.lo < job.hi) index.kernels().walk(index.view(), &job, 1, scratch);
        const py::object tokens = new_longs(scratch.found.size()), counts = new_longs(scratch.found.size());
        i64* token = longs_of(tokens);
        i64* number = longs_of(counts);
        for (const Successor& s : scratch.found) {
            *token++ = s.token();
            *number++ = static_cast<i64>(s.count);
        }
        return PyTuple_Pack(2, tokens.ptr(), counts.ptr());
    });
}

PyObject* query_count_ends(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    return guarded([&] {
        need(count, 1, "count_ends");
        const Index& index = *self_index(self);
        const SpanObject* span = span_argument(index, args[0]);
        return PyLong_FromUnsignedLongLong(
            index.kernels().count_ends(index.view(), static_cast<u64>(span->lo), static_cast<u64>(span->hi)));
    });
}

template <class Function>
PyCFunction as_method(Function function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef fast_methods[] = {
    {"search", as_method(query_search), METH_FASTCALL, "search($self, tokens, /)\n--\n\nRows of a token sequence."},
    {"extend", as_method(query_extend), METH_FASTCALL, "extend($self, span, token, /)\n--\n\nOne token further."},
    {"next_tokens", as_method(query_next_tokens), METH_FASTCALL, "next_tokens($self, span, /)\n--\n\nWhat may follow."},
    {"count_ends", as_method(query_count_ends), METH_FASTCALL, "count_ends($self, span, /)\n--\n\nDocument ends."},
};

// --- batch queries ---------------------------------------------------------------------------------------

struct Batch {
    const i64 *lo, *hi;
    std::size_t count;
};

Batch batch_of(const Index& index, const Longs& lo, const Longs& hi) {
    if (lo.ndim() != 1 || hi.ndim() != 1 || lo.size() != hi.size())
        throw QueryError("lo and hi must be arrays of one dimension and equal length, got " + std::to_string(lo.size()) +
                         " and " + std::to_string(hi.size()) + " values");
    const Batch batch{lo.data(), hi.data(), static_cast<std::size_t>(lo.size())};
    index.check_spans(batch.lo, batch.hi, batch.count);
    return batch;
}

py::tuple extend_many(const Index& index, const Longs& lo, const Longs& hi, const Longs& tokens) {
    const Batch batch = batch_of(index, lo, hi);
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

void fill_mask(const Index& index, const Longs& lo, const Longs& hi, py::array& out) {
    const Batch batch = batch_of(index, lo, hi);
    const auto words = static_cast<py::ssize_t>(ceil_div(index.view().vocab_size, 32));
    const bool fits = out.ndim() == 2 && out.shape(0) == lo.size() && out.shape(1) == words &&
                      out.dtype().kind() == 'u' && out.itemsize() == 4 && (out.flags() & py::array::c_style) &&
                      out.writeable();
    if (!fits)
        throw QueryError("out must be a writable, contiguous uint32 array of shape (" + std::to_string(lo.size()) + ", " +
                         std::to_string(words) + ")");
    u32* to = static_cast<u32*>(out.mutable_data());
    const py::gil_scoped_release release;
    index.fill_mask(batch.lo, batch.hi, batch.count, to);
}

py::tuple next_tokens_many(const Index& index, const Longs& lo, const Longs& hi) {
    const Batch batch = batch_of(index, lo, hi);
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

// The rows of spans in one piece.
std::vector<u64> rows_of(i64 lo, i64 hi) {
    std::vector<u64> rows(static_cast<std::size_t>(hi - lo));
    for (std::size_t k = 0; k < rows.size(); ++k) rows[k] = static_cast<u64>(lo) + k;
    return rows;
}

struct DocCounts {
    std::vector<u64> docs, counts;
};

DocCounts count_documents(const Index& index, i64 lo, i64 hi, std::size_t limit) {
    const std::vector<u64> rows = rows_of(lo, hi);
    std::vector<u64> docs = index.docs_of_rows(rows.data(), rows.size());
    std::sort(docs.begin(), docs.end());
    std::vector<std::pair<u64, u64>> counted;
    for (std::size_t k = 0; k < docs.size();) {
        std::size_t stop = k;
        while (stop < docs.size() && docs[stop] == docs[k]) ++stop;
        counted.emplace_back(stop - k, docs[k]);
        k = stop;
    }
    std::sort(counted.begin(), counted.end(),
              [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
    if (counted.size() > limit) counted.resize(limit);
    DocCounts out;
    for (const auto& [count, doc] : counted) {
        out.docs.push_back(doc);
        out.counts.push_back(count);
    }
    return out;
}

std::size_t limit_of(const std::optional<i64>& limit) {
    if (!limit) return ~std::size_t{0};
    if (*limit < 0) throw QueryError("limit is " + std::to_string(*limit) + ", it must not be negative");
    return static_cast<std::size_t>(*limit);
}

py::tuple documents(const Index& index, const py::object& span, const std::optional<i64>& limit) {
    const SpanObject* s = span_argument(index, span.ptr());
    const std::size_t most = limit_of(limit);
    DocCounts found;
    {
        const py::gil_scoped_release release;
        found = count_documents(index, s->lo, s->hi, most);
    }
    return py::make_tuple(to_array(found.docs), to_array(found.counts));
}

py::tuple documents_many(const Index& index, const Longs& lo, const Longs& hi, const std::optional<i64>& limit) {
    const Batch batch = batch_of(index, lo, hi);
    const std::size_t most = limit_of(limit);
    std::vector<i64> offsets(1, 0);
    DocCounts all;
    {
        const py::gil_scoped_release release;
        for (std::size_t k = 0; k < batch.count; ++k) {
            const DocCounts found = count_documents(index, batch.lo[k], batch.hi[k], most);
            all.docs.insert(all.docs.end(), found.docs.begin(), found.docs.end());
            all.counts.insert(all.counts.end(), found.counts.begin(), found.counts.end());
            offsets.push_back(static_cast<i64>(all.docs.size()));
        }
    }
    return py::make_tuple(to_array(offsets), to_array(all.docs), to_array(all.counts));
}

py::array_t<i64> locate(const Index& index, const py::object& span, const std::optional<i64>& limit) {
    const SpanObject* s = span_argument(index, span.ptr());
    const std::size_t most = limit_of(limit);
    std::vector<Occurrence> found;
    {
        const py::gil_scoped_release release;
        const std::vector<u64> rows = rows_of(s->lo, s->hi);
        found = index.locate_rows(rows.data(), rows.size());
        std::sort(found.begin(), found.end(), [](const Occurrence& a, const Occurrence& b) {
            return a.doc != b.doc ? a.doc < b.doc : a.gap < b.gap;
        });
    }
    if (found.size() > most) found.resize(most);
    py::array_t<i64> out({static_cast<py::ssize_t>(found.size()), py::ssize_t{2}});
    i64* to = out.mutable_data();
    for (const Occurrence& o : found) {
        if (o.gap < static_cast<u64>(s->length))
            throw QueryError("the span tells a pattern of " + std::to_string(s->length) + " tokens but ends " +
                             std::to_string(o.gap) + " tokens into document " + std::to_string(o.doc) +
                             "; take the span from search or extend of this index");
        *to++ = static_cast<i64>(o.doc);
        *to++ = static_cast<i64>(o.gap) - s->length;
    }
    return out;
}

py::tuple locate_rows(const Index& index, const Longs& rows) {
    const auto count = static_cast<std::size_t>(rows.size());
    for (std::size_t k = 0; k < count; ++k)
        if (rows.data()[k] < 0 || static_cast<u64>(rows.data()[k]) >= index.view().n_rows)
            throw QueryError("row " + std::to_string(rows.data()[k]) + " is not among the " +
                             std::to_string(index.view().n_rows) + " rows of this index");
    const std::vector<u64> wanted(rows.data(), rows.data() + count);
    std::vector<u64> docs(count), gaps(count);
    {
        const py::gil_scoped_release release;
        const std::vector<Occurrence> found = index.locate_rows(wanted.data(), count);
        for (std::size_t k = 0; k < count; ++k) {
            docs[k] = found[k].doc;
            gaps[k] = found[k].gap;
        }
    }
    return py::make_tuple(to_array(docs), to_array(gaps));
}

py::array_t<i64> docs_of_rows(const Index& index, const Longs& rows) {
    const auto count = static_cast<std::size_t>(rows.size());
    for (std::size_t k = 0; k < count; ++k)
        if (rows.data()[k] < 0 || static_cast<u64>(rows.data()[k]) >= index.view().n_rows)
            throw QueryError("row " + std::to_string(rows.data()[k]) + " is not among the " +
                             std::to_string(index.view().n_rows) + " rows of this index");
    const std::vector<u64> wanted(rows.data(), rows.data() + count);
    std::vector<u64> docs;
    {
        const py::gil_scoped_release release;
        docs = index.docs_of_rows(wanted.data(), count);
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

PYBIND11_MODULE(_core, m) {
    m.doc() = "The C++ core of gemkr.fm_index; use gemkr.fm_index.FMIndex.";
    py::register_exception_translator([](std::exception_ptr p) {
        if (!p) return;
        try {
            std::rethrow_exception(p);
        } catch (const BuildError&) {
            set_python_error();
        } catch (const QueryError&) {
            set_python_error();
        } catch (const FormatError&) {
            set_python_error();
        } catch (const CorruptError&) {
            set_python_error();
        } catch (const std::system_error&) {
            set_python_error();
        }
    });
    if (!span_type()) throw py::error_already_set();
    m.attr("Span") = py::handle(reinterpret_cast<PyObject*>(span_type()));

    m.def("xxh64", [](const py::bytes& data) {
        const auto view = static_cast<std::string_view>(data);
        return hash_bytes(view.data(), view.size());
    }, py::arg("data"), "The checksum of the file format.");

    py::class_<PyBuilder>(m, "Builder", "Collects documents for a build.")
        .def(py::init<u64>(), py::arg("vocab_limit"))
        .def("add", &add_document, py::arg("tokens"))
        .def("add_flat", &add_flat, py::arg("tokens"), py::arg("offsets"))
        .def("add_id",
             [](PyBuilder& b, const py::str& id) {
                 Py_ssize_t size = 0;
                 const char* text = PyUnicode_AsUTF8AndSize(id.ptr(), &size);
                 if (!text) throw py::error_already_set();
                 b.ids.add(text, static_cast<std::size_t>(size));
                 b.has_ids = true;
             })
        .def("expect_ids", [](PyBuilder& b) { b.has_ids = true; })
        .def_property_readonly("documents", [](const PyBuilder& b) { return b.text.documents(); })
        .def_property_readonly("rows", [](const PyBuilder& b) { return b.text.rows(); });

    py::class_<Index> index(m, "Index", "An open index.");
    index
        .def(py::init([](const std::string& path, bool mmap) {
                 const py::gil_scoped_release release;
                 return std::make_unique<Index>(path, mmap);
             }),
             py::arg("path"), py::arg("mmap"))
        .def(py::init(&finish_build), py::arg("builder"), py::arg("sample_rate"), py::arg("document_array"),
             py::arg("threads"), py::arg("context_bits"), py::arg("tokenizer"), py::arg("wide_rows"), py::arg("progress"))
        .def("_verify", &Index::verify, py::call_guard<py::gil_scoped_release>())
        .def("_write", &Index::write, py::call_guard<py::gil_scoped_release>())
        .def("_info", &info)
        .def("_doc_id", [](const Index& i, i64 doc) {
            i.check_doc(doc);
            return py::bytes(i.doc_id(static_cast<u64>(doc)));
        })
        .def("_use_kernels", &Index::use_kernels)
        .def("extend_many", &extend_many, py::arg("lo"), py::arg("hi"), py::arg("tokens"))
        .def("fill_mask", &fill_mask, py::arg("lo"), py::arg("hi"), py::arg("out"))
        .def("next_tokens_many", &next_tokens_many, py::arg("lo"), py::arg("hi"))
        .def("documents", &documents, py::arg("span"), py::arg("limit") = py::none())
        .def("documents_many", &documents_many, py::arg("lo"), py::arg("hi"), py::arg("limit") = py::none())
        .def("locate", &locate, py::arg("span"), py::arg("limit") = py::none())
        .def("locate_rows", &locate_rows, py::arg("rows"))
        .def("docs_of_rows", &docs_of_rows, py::arg("rows"))
        .def("extract", &extract, py::arg("doc"), py::arg("start") = 0, py::arg("stop") = py::none())
        .def("doc_length", [](const Index& i, i64 doc) {
            i.check_doc(doc);
            return i.doc_length(static_cast<u64>(doc));
        })
        .def_property("threads", &Index::threads, &Index::set_threads)
        .def_property_readonly("n_tokens", [](const Index& i) { return i.header().n_tokens; })
        .def_property_readonly("n_rows", [](const Index& i) { return i.header().n_rows; })
        .def_property_readonly("vocab_size", [](const Index& i) { return i.header().vocab_size; })
        .def_property_readonly("sample_rate", [](const Index& i) { return i.header().sample_rate; })
        .def_property_readonly("has_document_array",
                               [](const Index& i) { return (i.header().flags & HAS_DOC_ARRAY) != 0; })
        .def_property_readonly("root",
                               [](const Index& i) {
                                   return py::reinterpret_steal<py::object>(
                                       make_span(0, static_cast<i64>(i.header().n_rows), 0));
                               })
        .def("__len__", [](const Index& i) { return i.header().n_docs; });
    for (PyMethodDef& method : fast_methods) {
        PyObject* descriptor = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(index.ptr()), &method);
        if (!descriptor) throw py::error_already_set();
        index.attr(method.ml_name) = py::reinterpret_steal<py::object>(descriptor);
    }
}

}  // namespace gemkr
