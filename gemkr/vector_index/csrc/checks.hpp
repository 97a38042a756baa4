// Arrays from Python are checked here, so that the kernels need not.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "candidates.hpp"

namespace py = pybind11;

namespace gemkr {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using Floats = Array<float>;
using Longs = Array<std::int64_t>;
using Shorts = Array<std::uint16_t>;
using Bytes = Array<std::uint8_t>;

[[noreturn]] inline void refuse(const std::string& message) { throw std::invalid_argument(message); }

inline void require(bool fits, const char* message) {
    if (!fits) refuse(message);
}

// Bounds rise from 0 to at most `last`.
inline void require_bounds(const Longs& bounds, py::ssize_t last, const char* name) {
    bool fits = bounds.ndim() == 1 && bounds.size() >= 1 && bounds.at(0) >= 0 && bounds.at(bounds.size() - 1) <= last;
    for (py::ssize_t i = 0; fits && i + 1 < bounds.size(); ++i) fits = bounds.at(i) <= bounds.at(i + 1);
    if (!fits) refuse(std::string(name) + " must rise from 0 or more to at most " + std::to_string(last));
}

// Offsets of whole stores are long: only the documents that are asked for are looked at.
inline void require_docs(const Longs& docs, const Longs& offsets, py::ssize_t tokens) {
    require(docs.ndim() == 1 && offsets.ndim() == 1, "docs and offsets must have one axis");
    const std::int64_t* at = offsets.data();
    for (py::ssize_t i = 0; i < docs.size(); ++i) {
        const std::int64_t doc = docs.data()[i];
        if (doc < 0 || doc + 1 >= offsets.size()) refuse("there is no document " + std::to_string(doc));
        if (at[doc] < 0 || at[doc] > at[doc + 1] || at[doc + 1] > tokens)
            refuse("the offsets of document " + std::to_string(doc) + " do not fit");
    }
}

// Every token of the documents has a centroid that is there.
inline void require_codes(const Shorts& codes, const Longs& offsets, const Longs& docs, py::ssize_t centroids) {
    const std::uint16_t* held = codes.data();
    std::uint16_t most = 0;
    for (py::ssize_t i = 0; i < docs.size(); ++i) {
        const std::int64_t* bounds = offsets.data() + docs.data()[i];
        for (std::int64_t t = bounds[0]; t < bounds[1]; ++t) most = std::max(most, held[t]);
    }
    require(docs.size() == 0 || most < centroids, "a token has a centroid that is not there");
}

// Tokens of the documents are coded as a centroid that is there and a residual each.
inline void require_coded(const Shorts& codes, const Bytes& residuals, const Longs& offsets, const Longs& docs, py::ssize_t centroids) {
    require(residuals.ndim() == 2 && codes.ndim() == 1 && residuals.shape(0) == codes.size(),
            "the parts of a coded token do not fit together");
    require_docs(docs, offsets, codes.size());
    require_codes(codes, offsets, docs, centroids);
}

// Some of a query's vectors, from a multiple of `each` on.
inline void require_range(std::int64_t first, std::int64_t last, py::ssize_t vectors, std::size_t each) {
    if (first < 0 || first > last || last > vectors || static_cast<std::size_t>(first) % each)
        refuse("first to last must be some of " + std::to_string(vectors) + " vectors, first a multiple of " + std::to_string(each));
}

inline void require_as_many(const Floats& numbers, const Floats& scores) {
    require(numbers.ndim() == 1 && scores.ndim() == 1 && numbers.size() == scores.size(), "better scores and scores must be as many");
}

inline Scores scores_from(const Bytes& levels, std::int64_t vectors, float low, float step) {
    require(levels.ndim() == 2 && levels.shape(0) > 0 && levels.shape(1) % GROUP == 0 && vectors >= 0 &&
                vectors <= levels.shape(1),
            "levels must be [centroids, a multiple of 32 that holds the query's vectors]");
    return {levels.data(), static_cast<std::size_t>(levels.shape(1)) / GROUP, static_cast<std::size_t>(vectors), low, step};
}

}  // namespace gemkr
