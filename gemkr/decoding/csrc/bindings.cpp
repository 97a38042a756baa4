// Python's door to choose.hpp: rows of float32 logits on the host, allowed tokens as CSR or shared by all rows.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "choose.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Longs = py::array_t<std::int64_t, py::array::c_style>;

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

// (scores float32[n, k], tokens int64[n, k]). Without `indptr`, every row may choose among all `tokens`.
py::tuple top_k(const Floats& logits, const Floats& norm, const py::object& indptr, const Longs& tokens,
                std::int64_t k) {
    if (logits.ndim() != 2 || norm.ndim() != 1 || tokens.ndim() != 1 || norm.size() != logits.shape(0))
        refuse("top_k takes logits [n, V], norm [n] and tokens [m]");
    if (k < 1) refuse("k is " + std::to_string(k) + " but must be at least 1");
    const py::ssize_t n = logits.shape(0), m = tokens.size();
    Longs bounds;
    if (!indptr.is_none()) {
        bounds = py::cast<Longs>(indptr);
        bool fits = bounds.ndim() == 1 && bounds.size() == n + 1 && bounds.at(0) >= 0 && bounds.at(n) <= m;
        for (py::ssize_t i = 0; fits && i < n; ++i) fits = bounds.at(i) <= bounds.at(i + 1);
        if (!fits) refuse("indptr must rise from 0 to at most " + std::to_string(m) + " in " + std::to_string(n + 1) + " steps");
    }
    const std::int64_t* ends = indptr.is_none() ? nullptr : bounds.data();
    const float *rows = logits.data(), *norms = norm.data();
    const std::int64_t* allowed = tokens.data();
    const auto width = static_cast<std::size_t>(logits.shape(1));
    Floats scores({n, static_cast<py::ssize_t>(k)});
    Longs chosen({n, static_cast<py::ssize_t>(k)});
    float* to_scores = scores.mutable_data();
    std::int64_t* to_chosen = chosen.mutable_data();
    bool fits = true;
    {
        const py::gil_scoped_release release;
        for (py::ssize_t i = 0; i < n && fits; ++i) {
            const std::int64_t from = ends ? ends[i] : 0, to = ends ? ends[i + 1] : m;
            const Row row{rows + i * width, width, norms[i], allowed + from, static_cast<std::size_t>(to - from)};
            fits = choose_best(row, static_cast<std::size_t>(k), to_scores + i * k, to_chosen + i * k);
        }
    }
    if (!fits) refuse("a token does not fit logits of width " + std::to_string(width));
    return py::make_tuple(std::move(scores), std::move(chosen));
}

}  // namespace

}  // namespace gemkr

PYBIND11_MODULE(_choose, module) {
    module.doc() = "The best allowed tokens of rows of logits on the host.";
    module.def("top_k", &gemkr::top_k, py::arg("logits").noconvert(), py::arg("norm").noconvert(), py::arg("indptr"),
               py::arg("tokens").noconvert(), py::arg("k"));
}
