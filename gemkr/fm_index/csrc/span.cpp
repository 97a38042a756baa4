#include "span.hpp"

#include <structmember.h>

#include <cstddef>

namespace gemkr {

namespace {

SpanObject* as_span(PyObject* self) { return reinterpret_cast<SpanObject*>(self); }

PyObject* span_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
    static const char* names[] = {"lo", "hi", "length", nullptr};
    long long lo = 0, hi = 0, length = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LL|L", const_cast<char**>(names), &lo, &hi, &length))
        return nullptr;
    if (lo < 0 || hi < lo || length < 0) {
        PyErr_Format(PyExc_ValueError, "a span needs 0 <= lo <= hi and length >= 0, got lo=%lld, hi=%lld, length=%lld",
                     lo, hi, length);
        return nullptr;
    }
    PyObject* self = type->tp_alloc(type, 0);
    if (self) {
        as_span(self)->lo = lo;
        as_span(self)->hi = hi;
        as_span(self)->length = length;
    }
    return self;
}

void span_dealloc(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* span_repr(PyObject* self) {
    const SpanObject* s = as_span(self);
    return PyUnicode_FromFormat("Span(lo=%lld, hi=%lld, length=%lld)", s->lo, s->hi, s->length);
}

Py_hash_t span_hash(PyObject* self) {
    const SpanObject* s = as_span(self);
    const unsigned long long mixed = static_cast<unsigned long long>(s->lo) * 0x9E3779B97F4A7C15ull ^
                                     static_cast<unsigned long long>(s->hi) * 0xD6E8FEB86659FD93ull;
    const Py_hash_t hash = static_cast<Py_hash_t>(mixed);
    return hash == -1 ? -2 : hash;
}

PyObject* span_compare(PyObject* a, PyObject* b, int op) {
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) Py_RETURN_NOTIMPLEMENTED;
    const bool equal = as_span(a)->lo == as_span(b)->lo && as_span(a)->hi == as_span(b)->hi;
    return PyBool_FromLong(equal == (op == Py_EQ));
}

int span_bool(PyObject* self) { return as_span(self)->hi > as_span(self)->lo; }
PyObject* span_count(PyObject* self, void*) { return PyLong_FromLongLong(as_span(self)->hi - as_span(self)->lo); }

PyObject* span_iter(PyObject* self) {
    PyObject* pair = Py_BuildValue("(LL)", as_span(self)->lo, as_span(self)->hi);
    if (!pair) return nullptr;
    PyObject* iterator = PyObject_GetIter(pair);
    Py_DECREF(pair);
    return iterator;
}

PyObject* span_reduce(PyObject* self, PyObject*) {
    const SpanObject* s = as_span(self);
    return Py_BuildValue("O(LLL)", Py_TYPE(self), s->lo, s->hi, s->length);
}

PyMemberDef members[] = {
    {"lo", T_LONGLONG, offsetof(SpanObject, lo), READONLY, "first row"},
    {"hi", T_LONGLONG, offsetof(SpanObject, hi), READONLY, "row after the last"},
    {"length", T_LONGLONG, offsetof(SpanObject, length), READONLY, "tokens of the pattern (0 when not known)"},
    {nullptr, 0, 0, 0, nullptr}};
PyGetSetDef getters[] = {{"count", span_count, nullptr, "number of rows, that is of occurrences", nullptr},
                         {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMethodDef methods[] = {{"__reduce__", span_reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
const char doc[] =
    "Span(lo, hi, length=0)\n--\n\n"
    "The rows [lo, hi) of a pattern of `length` tokens: an immutable value of one index, falsy when empty.\n\n"
    "Spans are equal when their rows are. `lo, hi = span` unpacks the rows.";
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(span_new)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(span_dealloc)},
                       {Py_tp_repr, reinterpret_cast<void*>(span_repr)},
                       {Py_tp_hash, reinterpret_cast<void*>(span_hash)},
                       {Py_tp_richcompare, reinterpret_cast<void*>(span_compare)},
                       {Py_tp_iter, reinterpret_cast<void*>(span_iter)},
                       {Py_nb_bool, reinterpret_cast<void*>(span_bool)},
                       {Py_tp_members, members},
                       {Py_tp_getset, getters},
                       {Py_tp_methods, methods},
                       {Py_tp_doc, const_cast<char*>(doc)},
                       {0, nullptr}};
PyType_Spec spec = {"gemkr.fm_index._core.Span", sizeof(SpanObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                    slots};

}  // namespace

PyTypeObject* span_type() {
    static PyTypeObject* const type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
    return type;
}

PyObject* make_span(long long lo, long long hi, long long length) {
    PyTypeObject* type = span_type();
    PyObject* self = type->tp_alloc(type, 0);
    if (self) {
        as_span(self)->lo = lo;
        as_span(self)->hi = hi;
        as_span(self)->length = length;
    }
    return self;
}

}  // namespace gemkr
