// Part of bindings.cpp: documents and ids come in, a finished index goes out.
#pragma once

#include <limits>

#include "bindings_support.hpp"
#include "builder.hpp"
#include "plan.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

struct PyBuilder {
    PyBuilder(u64 vocab_limit, u64 held_bytes, const std::string& work_folder)
        : text(vocab_limit, held_bytes, work_folder) {}
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

// The array in one piece and in this machine's byte order, which is all that with_integers can read.
py::array contiguous(const py::array& tokens) {
    const py::object type = tokens.dtype().attr("newbyteorder")("=");
    return py::module_::import("numpy").attr("ascontiguousarray")(tokens, type);
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

py::dict estimate_build(u64 rows, u64 documents, bool wide_symbols, unsigned threads, u64 memory_limit) {
    const BuildFacts facts = BuildFacts::guess(rows, documents, wide_symbols, threads);
    const u64 limit = std::max(memory_limit, least_bytes(facts));  // a lower one is refused
    const bool whole = memory_limit == 0 || whole_bytes(facts) <= limit;
    const u64 block_rows = whole ? rows : rows_within(facts, limit);
    py::dict out;
    out["peak_bytes"] = whole ? whole_bytes(facts) : blocks_bytes(facts, block_rows);
    out["least_bytes"] = least_bytes(facts);
    out["blocks"] = whole ? 1 : ceil_div(rows, block_rows);
    out["temporary_bytes"] = whole ? 0 : temporary_bytes(facts);
    return out;
}

std::unique_ptr<Index> finish_build(PyBuilder& builder, u64 sample_rate, bool doc_array, unsigned threads,
                                    double context_bits, const std::string& tokenizer, bool wide_rows,
                                    const py::object& progress, u64 memory_limit, u64 block_rows,
                                    const std::string& work_folder) {
    BuildOptions options;
    options.sample_rate = sample_rate;
    options.doc_array = doc_array;
    options.threads = threads;
    options.context_bits = context_bits;
    options.tokenizer = tokenizer;
    options.wide_rows = wide_rows;
    options.memory_limit = memory_limit;
    options.block_rows = block_rows;
    options.work_folder = work_folder;
    options.progress = [&progress](const char* stage, double share) {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!progress.is_none()) progress(stage, share);
    };
    const py::gil_scoped_release release;
    return build_index(builder.text, builder.has_ids ? &builder.ids : nullptr, options);
}

}  // namespace

}  // namespace gemkr
