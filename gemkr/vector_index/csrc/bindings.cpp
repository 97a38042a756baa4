// Python's door to the kernels.

#include "checks.hpp"
#include "every_cpu.hpp"
#include "refinement.hpp"

namespace gemkr {

namespace {

template <class Source, class Score>
Floats scores_of(const Source& source, const Longs& offsets, const Longs& docs, const Floats& vectors, const Longs& bounds,
                 Score score) {
    require(vectors.ndim() == 2 && vectors.shape(1) == static_cast<py::ssize_t>(source.width),
            "query vectors must be [n, width of the tokens]");
    require_bounds(bounds, vectors.shape(0), "bounds");
    Floats out({bounds.size() - 1, docs.size()});
    float* to = out.mutable_data();
    {
        const py::gil_scoped_release release;
        const auto n = static_cast<std::size_t>(vectors.shape(0));
        const std::vector<float> groups = packed(vectors.data(), n, source.width);
        const Queries queries{groups.data(), n, bounds.data(), static_cast<std::size_t>(bounds.size() - 1)};
        const std::int64_t *bounds_of = offsets.data(), *numbers = docs.data();
        const auto m = static_cast<std::size_t>(docs.size());
        score(source, bounds_of, numbers, m, queries, to);
    }
    return out;
}

Floats stored(const Shorts& values, const Longs& offsets, const Longs& docs, const Floats& vectors, const Longs& bounds) {
    require(values.ndim() == 2, "values must be [tokens, width]");
    require_docs(docs, offsets, values.shape(0));
    const Stored source{values.data(), static_cast<std::size_t>(values.shape(1))};
    return scores_of(source, offsets, docs, vectors, bounds, [](auto&... args) { score_stored(args...); });
}

Floats coded(const Shorts& codes, const Bytes& residuals, const Floats& centroids, const Floats& table, const Floats& scales,
             bool unit, const Longs& offsets, const Longs& docs, const Floats& vectors, const Longs& bounds) {
    require(codes.ndim() == 1 && residuals.ndim() == 2 && centroids.ndim() == 2 && table.ndim() == 2 && scales.ndim() == 1,
            "a coded token is a centroid, levels of residuals, and scales");
    const py::ssize_t width = centroids.shape(1), bytes = residuals.shape(1), each = table.shape(1);
    require(residuals.shape(0) == codes.size() && scales.size() == width && table.shape(0) == 256 && bytes * each == width &&
                (each == 1 || each == 2 || each == 4),
            "the parts of a coded token do not fit together");
    require_docs(docs, offsets, codes.size());
    require_codes(codes, offsets, docs, centroids.shape(0));
    const Coded source{codes.data(), residuals.data(), centroids.data(), table.data(), scales.data(),
                       static_cast<std::size_t>(width), static_cast<std::size_t>(bytes), unit};
    return scores_of(source, offsets, docs, vectors, bounds, [](auto&... args) { score_coded(args...); });
}

Floats products(const Shorts& centroids, const Floats& vectors) {
    require(centroids.ndim() == 2 && vectors.ndim() == 2 && centroids.shape(1) == vectors.shape(1),
            "centroids and query vectors must be of one width");
    const auto n = static_cast<std::size_t>(vectors.shape(0)), width = static_cast<std::size_t>(vectors.shape(1));
    const std::size_t groups = (n + GROUP - 1) / GROUP;
    Floats out({centroids.shape(0), static_cast<py::ssize_t>(groups * GROUP)});
    float* to = out.mutable_data();
    const Stored source{centroids.data(), width};
    const auto count = static_cast<std::size_t>(centroids.shape(0));
    {
        const py::gil_scoped_release release;
        const std::vector<float> queries = packed(vectors.data(), n, width);
        products_of(source, count, queries.data(), groups, to);
    }
    return out;
}

py::tuple leveled(const Floats& products) {
    require(products.size() > 0, "there are no products");
    const auto n = static_cast<std::size_t>(products.size());
    Bytes out(std::vector<py::ssize_t>(products.shape(), products.shape() + products.ndim()));
    const float* from = products.data();
    std::uint8_t* to = out.mutable_data();
    float low = 0, step = 0;
    {
        const py::gil_scoped_release release;
        levels_of(from, n, to, low, step);
    }
    return py::make_tuple(out, low, step);
}

py::tuple probes(const Floats& products, std::int64_t vectors, std::int64_t p) {
    require(products.ndim() == 2 && vectors >= 0 && vectors <= products.shape(1) && p > 0 && p <= products.shape(0),
            "products must be [centroids, vectors or more], and p at most the number of centroids");
    std::vector<Probe> found;
    {
        const py::gil_scoped_release release;
        found = best_centroids(products.data(), static_cast<std::size_t>(products.shape(0)),
                               static_cast<std::size_t>(products.shape(1)), static_cast<std::size_t>(vectors),
                               static_cast<std::size_t>(p));
    }
    Longs centroids({vectors, p});
    Floats scores({vectors, p});
    for (std::size_t i = 0; i < found.size(); ++i) {
        centroids.mutable_data()[i] = found[i].centroid;
        scores.mutable_data()[i] = found[i].product;
    }
    return py::make_tuple(centroids, scores);
}

Floats by_centroid(const Bytes& levels, const Longs& bounds, float low, float step, const Shorts& codes, const Longs& offsets,
                   const Longs& docs) {
    require_bounds(bounds, levels.ndim() == 2 ? levels.shape(1) : 0, "bounds");
    const Scores scores = scores_from(levels, bounds.at(bounds.size() - 1), low, step);
    require(codes.ndim() == 1, "codes must have one axis");
    require_docs(docs, offsets, codes.size());
    require_codes(codes, offsets, docs, levels.shape(0));
    Floats out({bounds.size() - 1, docs.size()});
    float* to = out.mutable_data();
    {
        const py::gil_scoped_release release;
        score_centroids(scores, Codes{codes.data(), offsets.data()}, bounds.data(), static_cast<std::size_t>(bounds.size() - 1),
                        docs.data(), static_cast<std::size_t>(docs.size()), to);
    }
    return out;
}

Floats scanned(const Bytes& levels, const Bytes& entries, const Shorts& weights, const Floats& steps, float low, std::int64_t first,
               std::int64_t last, const Shorts& codes, const Bytes& residuals, const Longs& offsets, const Longs& docs) {
    require(entries.ndim() == 4 && entries.shape(2) == TOGETHER && entries.shape(3) == ENTRIES && entries.shape(1) % ADDED == 0 &&
                weights.size() == 2 * entries.shape(0) && steps.ndim() == 1 && steps.size() <= weights.size(),
            "entries must be [vectors / 2, a multiple of 8 halves, 2, 16], with a weight and a step for each vector");
    const Scores scores = scores_from(levels, steps.size(), 0, 1);
    require(weights.size() <= levels.shape(1), "levels and entries must be of the same vectors");
    require_range(first, last, steps.size(), TOGETHER);
    require_coded(codes, residuals, offsets, docs, levels.shape(0));
    require(2 * residuals.shape(1) <= entries.shape(1), "the parts of a coded token do not fit together");
    Floats out(docs.size());
    float* to = out.mutable_data();
    {
        const py::gil_scoped_release release;
        const Tables tables{entries.data(), weights.data(), steps.data(), static_cast<std::size_t>(weights.size()),
                            static_cast<std::size_t>(entries.shape(1)), low};
        score_scanned(scores, Codes{codes.data(), offsets.data()},
                      Residuals{residuals.data(), static_cast<std::size_t>(residuals.shape(1))}, tables,
                      static_cast<std::size_t>(first), static_cast<std::size_t>(last), docs.data(),
                      static_cast<std::size_t>(docs.size()), to);
    }
    return out;
}

Floats multiplied(const Bytes& levels, const Array<std::int8_t>& vectors, const Bytes& values, const Array<std::int16_t>& weights,
                  const Floats& steps, float low, std::int64_t first, std::int64_t last, const Shorts& codes, const Bytes& residuals,
                  const Longs& offsets, const Longs& docs) {
    require(values.ndim() == 3 && values.shape(1) == 2 && values.shape(2) == ENTRIES && steps.ndim() == 1 && weights.ndim() == 1,
            "values must be [planes, 2, 16], weights and steps have one axis");
    const Scores scores = scores_from(levels, steps.size(), 0, 1);
    require_coded(codes, residuals, offsets, docs, levels.shape(0));
    constexpr py::ssize_t filled = COLUMNS, quad = QUAD, group = GROUP;
    const py::ssize_t planes = values.shape(0), columns = (residuals.shape(1) + filled - 1) / filled * filled;
    require(planes == 1 || planes == 2 || planes == 4, "a byte holds 1, 2 or 4 numbers");
    require(vectors.ndim() == 4 && vectors.shape(0) == static_cast<py::ssize_t>(scores.groups) && weights.size() == levels.shape(1) &&
                vectors.shape(1) * quad == planes * columns && vectors.shape(2) == group && vectors.shape(3) == quad,
            "vectors must be [groups of 32, planes * bytes of a residual, filled up to 32, / 4, 32, 4], with a weight for each");
    require_range(first, last, steps.size(), GROUP / 2);
    Floats out(docs.size());
    float* to = out.mutable_data();
    {
        const py::gil_scoped_release release;
        const ByteQuery query{vectors.data(), values.data(), weights.data(), steps.data(), static_cast<std::size_t>(planes),
                              static_cast<std::size_t>(columns), low};
        score_multiplied(scores, Codes{codes.data(), offsets.data()},
                         Residuals{residuals.data(), static_cast<std::size_t>(residuals.shape(1))}, query,
                         static_cast<std::size_t>(first), static_cast<std::size_t>(last), docs.data(),
                         static_cast<std::size_t>(docs.size()), to);
    }
    return out;
}

py::tuple candidates(const Longs& list_offsets, const Array<std::uint32_t>& list_docs, const Longs& probes, const Floats& gains,
                     std::int64_t documents, const py::object& allowed) {
    require(probes.ndim() == 2 && gains.ndim() == 2 && probes.shape(0) == gains.shape(0) && probes.shape(1) == gains.shape(1),
            "probes and gains must be [vectors, p]");
    require_bounds(list_offsets, list_docs.size(), "the offsets of lists");
    const py::ssize_t centroids = list_offsets.size() - 1;
    for (py::ssize_t i = 0; i < probes.size(); ++i)
        require(probes.data()[i] < centroids, "a probe is no centroid");
    Array<std::uint8_t> mask;
    if (!allowed.is_none()) {
        mask = py::cast<Array<std::uint8_t>>(allowed);
        require(mask.ndim() == 1 && mask.size() == documents, "allowed must have one entry for each document");
    }
    Found found;
    bool fits = true;
    {
        const py::gil_scoped_release release;
        const std::uint32_t* all = list_docs.data();
        for (py::ssize_t i = 0; i < probes.size() && fits; ++i) {
            const std::int64_t c = probes.data()[i];
            for (std::int64_t at = c < 0 ? 0 : list_offsets.data()[c]; c >= 0 && at < list_offsets.data()[c + 1]; ++at)
                fits = fits && all[at] < documents;
        }
        const Lists lists{list_offsets.data(), all, static_cast<std::size_t>(centroids)};
        if (fits)
            found = gather(lists, probes.data(), gains.data(), static_cast<std::size_t>(probes.shape(0)),
                           static_cast<std::size_t>(probes.shape(1)), static_cast<std::size_t>(documents),
                           allowed.is_none() ? nullptr : mask.data());
    }
    require(fits, "a list holds a document that is not there");
    return py::make_tuple(Longs(static_cast<py::ssize_t>(found.docs.size()), found.docs.data()),
                          Floats(static_cast<py::ssize_t>(found.gains.size()), found.gains.data()));
}

Longs begin(Refinement& refinement, const Floats& better, const Floats& begun, const Floats& scores, double sure, std::size_t known) {
    require_as_many(better, scores);
    require_as_many(begun, scores);
    const auto kept = refinement.begin(better.data(), begun.data(), scores.data(), static_cast<std::size_t>(scores.size()), sure, known);
    return Longs(static_cast<py::ssize_t>(kept.size()), kept.data());
}

void learn(Refinement& refinement, const Floats& better, const Floats& scores, const py::object& added) {
    require_as_many(better, scores);
    Floats held;
    if (!added.is_none()) require_as_many(held = py::cast<Floats>(added), scores);
    refinement.learn(better.data(), scores.data(), added.is_none() ? nullptr : held.data(), static_cast<std::size_t>(better.size()));
}

}  // namespace

}  // namespace gemkr

PYBIND11_MODULE(_maxsim, module) {
    using py::arg;
    module.doc() = "MaxSim of queries and documents, over stored and over coded token vectors.";
    module.def("stored", &gemkr::stored, arg("values").noconvert(), arg("offsets").noconvert(), arg("docs").noconvert(),
               arg("vectors").noconvert(), arg("bounds").noconvert());
    module.def("coded", &gemkr::coded, arg("codes").noconvert(), arg("residuals").noconvert(), arg("centroids").noconvert(),
               arg("table").noconvert(), arg("scales").noconvert(), arg("unit"), arg("offsets").noconvert(),
               arg("docs").noconvert(), arg("vectors").noconvert(), arg("bounds").noconvert());
    module.def("products", &gemkr::products, arg("centroids").noconvert(), arg("vectors").noconvert());
    module.def("leveled", &gemkr::leveled, arg("products").noconvert());
    module.def("probes", &gemkr::probes, arg("products").noconvert(), arg("vectors"), arg("p"));
    module.def("by_centroid", &gemkr::by_centroid, arg("levels").noconvert(), arg("bounds").noconvert(), arg("low"), arg("step"),
               arg("codes").noconvert(), arg("offsets").noconvert(), arg("docs").noconvert());
    module.def("scanned", &gemkr::scanned, arg("levels").noconvert(), arg("entries").noconvert(), arg("weights").noconvert(),
               arg("steps").noconvert(), arg("low"), arg("first"), arg("last"), arg("codes").noconvert(),
               arg("residuals").noconvert(), arg("offsets").noconvert(), arg("docs").noconvert());
    module.def("multiplied", &gemkr::multiplied, arg("levels").noconvert(), arg("vectors").noconvert(), arg("values").noconvert(),
               arg("weights").noconvert(), arg("steps").noconvert(), arg("low"), arg("first"), arg("last"), arg("codes").noconvert(),
               arg("residuals").noconvert(), arg("offsets").noconvert(), arg("docs").noconvert());
    module.def("multiplies_bytes", &gemkr::multiplies_bytes);
    module.def("candidates", &gemkr::candidates, arg("list_offsets").noconvert(), arg("list_docs").noconvert(),
               arg("probes").noconvert(), arg("gains").noconvert(), arg("documents"), arg("allowed"));
    py::class_<gemkr::Refinement>(module, "Refinement")
        .def(py::init<std::size_t>(), arg("wanted"))
        .def("begin", &gemkr::begin, arg("better").noconvert(), arg("begun").noconvert(), arg("scores").noconvert(), arg("sure"),
             arg("known"))
        .def("learn", &gemkr::learn, arg("better").noconvert(), arg("scores").noconvert(), arg("added"))
        .def("settled", &gemkr::Refinement::settled, arg("score"), arg("sure"), arg("known"));
}
