// Part of bindings.cpp: errors, arrays and arguments that all bindings share.
#pragma once

#include "span.hpp"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "index.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

// The index of a Python object of its type. pybind11 lends memory that nothing was written to where __init__ never ran.
Index* opened_index(PyObject* self) {
    auto* instance = reinterpret_cast<py::detail::instance*>(self);
    if (!instance->simple_layout || !instance->simple_holder_constructed)
        throw QueryError("this index was never opened; use FMIndex.build or FMIndex.load");
    return static_cast<Index*>(instance->simple_value_holder[0]);
}

}  // namespace

}  // namespace gemkr

// Lets every method of an index through opened_index.
template <>
struct pybind11::detail::type_caster<gemkr::Index> : pybind11::detail::type_caster_base<gemkr::Index> {
    bool load(handle source, bool convert) {
        if (!type_caster_base<gemkr::Index>::load(source, convert)) return false;
        value = gemkr::opened_index(source.ptr());
        return true;
    }
};

namespace gemkr {

namespace {

using Longs = py::array_t<i64, py::array::c_style | py::array::forcecast>;

py::object error_class(const char* name) { return py::module_::import("gemkr.fm_index.errors").attr(name); }

// Turns the exception in flight into a Python error.
void set_python_error() {
    auto text = [](const std::exception& e) {  // which may name a file, and file names need not be UTF-8
        const std::string_view what(e.what());
        return py::reinterpret_steal<py::object>(
            PyUnicode_DecodeUTF8(what.data(), static_cast<Py_ssize_t>(what.size()), "surrogateescape"));
    };
    auto set = [&text](const char* name, const std::exception& e) {
        PyErr_SetObject(error_class(name).ptr(), text(e).ptr());
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
        py::object args = py::make_tuple(e.code().value(), text(e));
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

const SpanObject* span_argument(const Index& index, PyObject* object) {
    if (Py_TYPE(object) != span_type())
        throw py::type_error("expected a Span, got " +
                             std::string(py::str(py::type::handle_of(py::handle(object)).attr("__name__"))));
    const auto* span = reinterpret_cast<SpanObject*>(object);
    index.check_span(span->lo, span->hi);
    return span;
}

}  // namespace

}  // namespace gemkr
