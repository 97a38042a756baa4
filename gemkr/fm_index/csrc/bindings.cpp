// The Python face of the core: the module and its types. The bindings_*.hpp are parts of this file; nothing else
// includes pybind11.
#include "bindings_batch.hpp"
#include "bindings_build.hpp"
#include "bindings_segments.hpp"
#include "bindings_single.hpp"
#include "hash.hpp"

namespace gemkr {

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

    m.def("estimate_build", &estimate_build, py::arg("rows"), py::arg("documents"), py::arg("wide_symbols"),
          py::arg("threads"), py::arg("memory_limit"), "What a build will take, guessed before it begins.");

    py::class_<PyBuilder>(m, "Builder", "Collects documents for a build.")
        .def(py::init<u64, u64, const std::string&>(), py::arg("vocab_limit"), py::arg("held_bytes") = 0,
             py::arg("work_folder") = "")
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
             py::arg("threads"), py::arg("context_bits"), py::arg("tokenizer"), py::arg("wide_rows"), py::arg("progress"),
             py::arg("memory_limit"), py::arg("block_rows"), py::arg("work_folder"))
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
        .def("extract_many", &extract_many, py::arg("docs"))
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
    add_segments(m);
    for (PyMethodDef& method : fast_methods) {
        PyObject* descriptor = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(index.ptr()), &method);
        if (!descriptor) throw py::error_already_set();
        index.attr(method.ml_name) = py::reinterpret_steal<py::object>(descriptor);
    }
}

}  // namespace gemkr
