// Part of bindings.cpp: queries of one state as plain C functions of CPython, because there the call costs more than
// the work. They keep the GIL.
#pragma once

#include "bindings_support.hpp"
#include "contexts.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

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

PyObject* query_extend(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    return guarded([&] {
        need(count, 2, "extend");
        const Index& index = *opened_index(self);
        const SpanObject* span = span_argument(index, args[0]);
        u64 lo = static_cast<u64>(span->lo), hi = static_cast<u64>(span->hi);
        if (!index.kernels().extend(index.view(), lo, hi, token_argument(args[1]))) lo = hi = 0;
        return make_span(static_cast<i64>(lo), static_cast<i64>(hi), span->length + 1);
    });
}

PyObject* query_search(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    return guarded([&]() -> PyObject* {
        need(count, 1, "search");
        const Index& index = *opened_index(self);
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
        const Index& index = *opened_index(self);
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
        const Index& index = *opened_index(self);
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

}  // namespace

}  // namespace gemkr
