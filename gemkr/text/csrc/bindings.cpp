// Python's door to word_cache.hpp: texts as str, tokens as numpy arrays.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <stdexcept>

#include "word_cache.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

// The new words of the texts, joined by spaces, `group` words in a string.
py::list note(WordCache& cache, const py::list& texts, std::size_t group) {
    if (group == 0) throw std::invalid_argument("group must be at least 1");
    std::vector<std::string_view> views;
    for (const py::handle text : texts) {
        if (!PyUnicode_Check(text.ptr())) throw py::type_error("texts must be strings");
        Py_ssize_t size = 0;
        const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
        if (!data) PyErr_Clear();  // half a character: the tokenizer itself says what it thinks of it
        views.emplace_back(data ? data : "", static_cast<std::size_t>(size));
    }
    std::vector<std::string> joined;
    {
        const py::gil_scoped_release release;
        for (const std::string_view text : views) cache.note(text);
        const std::vector<std::string_view> asked = cache.asked();
        for (std::size_t k = 0; k < asked.size(); ++k) {
            if (k % group == 0)
                joined.emplace_back();
            else
                joined.back() += ' ';
            joined.back() += asked[k];
        }
    }
    py::list out;
    for (const std::string& words : joined) out.append(py::str(words));
    return out;
}

using Longs = py::array_t<std::int64_t, py::array::c_style>;
using Tokens = py::array_t<std::uint32_t, py::array::c_style>;

void answer(WordCache& cache, const Longs& lengths, const Tokens& tokens) {
    if (!cache.answer(lengths.data(), static_cast<std::size_t>(lengths.size()), tokens.data(),
                      static_cast<std::size_t>(tokens.size())))
        throw std::invalid_argument("lengths and tokens do not fit the words that were asked for");
}

template <class Token>
py::array tokens_of(WordCache& cache, const std::vector<std::int64_t>& counts, std::size_t total) {
    py::array_t<Token> out(static_cast<py::ssize_t>(total));
    Token* const to = out.mutable_data();
    const py::gil_scoped_release release;
    cache.write(counts, to);
    return std::move(out);
}

py::tuple take(WordCache& cache, bool narrow) {
    std::vector<std::int64_t> counts;
    std::size_t total = 0;
    if (!cache.measure(counts, total)) throw std::invalid_argument("there are words without an answer");
    py::array tokens = narrow ? tokens_of<std::uint16_t>(cache, counts, total) : tokens_of<std::uint32_t>(cache, counts, total);
    return py::make_tuple(std::move(tokens), Longs(static_cast<py::ssize_t>(counts.size()), counts.data()));
}

}  // namespace

}  // namespace gemkr

PYBIND11_MODULE(_words, module) {
    using gemkr::WordCache;
    module.doc() = "The tokens of words that were seen before.";
    py::class_<WordCache>(module, "WordCache", "For one thread at a time.")
        .def(py::init<bool>(), py::arg("ascii_only"))
        .def("note", &gemkr::note, py::arg("texts"), py::arg("group"))
        .def("answer", &gemkr::answer, py::arg("lengths").noconvert(), py::arg("tokens").noconvert())
        .def("take", &gemkr::take, py::arg("narrow"))
        .def("clear", &WordCache::clear)
        .def_property_readonly("bytes", &WordCache::bytes)
        .def("__len__", &WordCache::words);
}
