// The Python type Span, written by hand because one is made at every decoding step: an immutable (lo, hi, length).
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace gemkr {

struct SpanObject {
    PyObject_HEAD
    long long lo, hi, length;
};

// The type, made on first use; null with a Python error set when that fails.
PyTypeObject* span_type();
PyObject* make_span(long long lo, long long hi, long long length);

}  // namespace gemkr
