// Part of bindings.cpp: several indexes as one. Batch queries release the GIL.
#pragma once

#include "bindings_batch.hpp"
#include "segments.hpp"

namespace py = pybind11;

namespace gemkr {

namespace {

struct PySegments {
    py::list owners;  // what the segments point into
    std::unique_ptr<Segments> segments;
};

std::unique_ptr<PySegments> make_segments(const py::list& positives, const py::list& deleted, const py::list& negatives,
                                          const py::list& numbers, u64 vocab_size) {
    auto made = std::make_unique<PySegments>();
    std::vector<Segment> all;
    auto add = [&](const py::list& indexes, const py::list& docs, bool negative) {
        if (indexes.size() != docs.size()) throw QueryError("segments need one array of documents each");
        for (std::size_t k = 0; k < indexes.size(); ++k) {
            const py::handle index = indexes[k];
            const auto array = Longs::ensure(docs[k]);
            if (!array || array.ndim() != 1) throw QueryError("the documents of a segment are an array of one dimension");
            all.push_back({index.cast<Index*>(), negative, array.data(), static_cast<std::size_t>(array.size())});
            made->owners.append(index);
            made->owners.append(array);
        }
    };
    add(positives, deleted, false);
    add(negatives, numbers, true);
    made->segments = std::make_unique<Segments>(std::move(all), vocab_size);
    return made;
}

py::tuple documents_of(const PySegments& self, const Longs& lo, const Longs& hi, const std::optional<i64>& limit) {
    const Batch batch = arrays_of(lo, hi);
    const std::size_t most = limit_of(limit);
    DocumentTable table;
    {
        const py::gil_scoped_release release;
        table = self.segments->documents(batch.lo, batch.hi, batch.count, most);
    }
    return py::make_tuple(to_array(table.offsets), to_array(table.docs), to_array(table.counts));
}

py::tuple occurrences(const PySegments& self, i64 lo, i64 hi) {
    std::vector<Occurrence> found;
    {
        const py::gil_scoped_release release;
        found = self.segments->occurrences(lo, hi);
    }
    py::object docs = new_longs(found.size()), gaps = new_longs(found.size());
    for (std::size_t k = 0; k < found.size(); ++k) {
        longs_of(docs)[k] = static_cast<i64>(found[k].doc);
        longs_of(gaps)[k] = static_cast<i64>(found[k].gap);
    }
    return py::make_tuple(docs, gaps);
}

py::array_t<i64> ranges_of(const PySegments& self, const Longs& lo, const Longs& hi) {
    const Batch batch = arrays_of(lo, hi);
    const std::size_t width = self.segments->size();
    std::vector<Range> ranges(batch.count * width);
    self.segments->resolve(batch.lo, batch.hi, batch.count, ranges.data());
    py::array_t<i64> out({lo.size(), static_cast<py::ssize_t>(width), py::ssize_t{2}});
    i64* to = out.mutable_data();
    for (const Range& range : ranges) {
        *to++ = static_cast<i64>(range.lo);
        *to++ = static_cast<i64>(range.hi);
    }
    return out;
}

void add_segments(py::module_& m) {
    py::class_<PySegments>(m, "Segments", "Several indexes as one; use gemkr.fm_index.SegmentedIndex.")
        .def(py::init(&make_segments), py::arg("positives"), py::arg("deleted"), py::arg("negatives"), py::arg("numbers"),
             py::arg("vocab_size"))
        .def("__len__", [](const PySegments& s) { return s.segments->live().size(); })
        .def_property_readonly("n_rows", [](const PySegments& s) { return s.segments->rows(); })
        .def_property_readonly("n_tokens", [](const PySegments& s) { return s.segments->tokens(); })
        .def_property("threads", [](const PySegments& s) { return s.segments->threads(); },
                      [](PySegments& s, unsigned threads) { s.segments->set_threads(threads); })
        .def("forget", [](PySegments& s) { s.segments->forget(); })
        .def("pattern", [](const PySegments& s, i64 code) { return to_array(s.segments->pattern(code)); })
        .def("place", [](const PySegments& s, i64 doc) {
            if (doc < 0 || static_cast<u64>(doc) >= s.segments->live().size())
                throw QueryError("document " + std::to_string(doc) + " is not among the " +
                                 std::to_string(s.segments->live().size()) + " documents of this index");
            const LiveDocuments::Place at = s.segments->live().place(static_cast<u64>(doc));
            return py::make_tuple(at.segment, at.doc);
        })
        .def("extend_many", [](const PySegments& s, const Longs& lo, const Longs& hi, const Longs& tokens) {
            return extend_batch(*s.segments, arrays_of(lo, hi), lo, tokens);
        })
        .def("next_tokens_many", [](const PySegments& s, const Longs& lo, const Longs& hi) {
            return successors_batch(*s.segments, arrays_of(lo, hi));
        })
        .def("fill_mask", [](const PySegments& s, const Longs& lo, const Longs& hi, py::array& out) {
            fill_batch(*s.segments, arrays_of(lo, hi), s.segments->vocab_size(), out);
        })
        .def("count_ends", [](const PySegments& s, i64 lo, i64 hi) { return s.segments->count_ends(lo, hi); })
        .def("documents_many", &documents_of)
        .def("only_document", [](const PySegments& s, i64 lo, i64 hi) -> std::optional<u64> {
            const u64 doc = s.segments->only_document(lo, hi);
            return doc == Segments::none() ? std::nullopt : std::optional<u64>(doc);
        })
        .def("occurrences", &occurrences)
        .def("ranges", &ranges_of);
}

}  // namespace

}  // namespace gemkr
