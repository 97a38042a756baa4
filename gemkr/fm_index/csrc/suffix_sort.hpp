// Suffix sorting for texts of many documents over an integer alphabet, and their Burrows-Wheeler transform.
//
// Symbol 0 separates documents. Every separator counts as a symbol of its own, ordered by position and below
// all tokens, so comparing two suffixes never passes the border of a document (a generalized suffix array).
// Order: seeds (about a third of the suffixes of natural language) are sorted by their symbols, eight bytes at a
// time; ties of long repeats by sorting a shorter text of seeds; everything else is induced in two passes. The
// result does not depend on the number of threads. Near-linear on every input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "suffix_sort_induce.hpp"
#include "suffix_sort_reduce.hpp"
#include "suffix_sort_seeds.hpp"
#include "suffix_sort_types.hpp"

namespace gemkr {

namespace suffix_detail {

struct Silent {
    static void ignore(double) {}
    auto operator()(double, double) const { return &ignore; }
};

// Sorts a text that keeps the contract; Sym may be any unsigned type. report(from, to) makes the progress
// function of one phase.
template <class Sym, class Row, class Report>
void sort_suffixes(const Sym* text, Row* sa, Sym* bwt, std::size_t n, std::size_t sigma, unsigned threads,
                   const Report& report, const TieLimits& limits = {}) {
    const Shape<Row> shape = find_shape<Sym, Row>(text, n, sigma, threads);
    report(0, 0.1)(1);
    {
        BitRow tied(shape.seed_count);
        distribute_seeds(text, shape, sa);
        if (sort_seeds(text, n, sigma, shape, sa, tied, threads, limits, report(0.1, 0.6))) {
            TieLimits inner = limits;
            inner.bytes = ~std::size_t{0};  // the outermost text has asked for all
            auto recurse = [threads, &inner](const Row* names, Row* rows, Row* left, std::size_t length,
                                              std::size_t count) {
                sort_suffixes<Row, Row>(names, rows, left, length, count, threads, Silent{}, inner);
            };
            resolve_ties(sa, shape.seed_count, sa + shape.seed_count, n - shape.seed_count, n, shape.seed_at, tied,
                         limits.bytes, recurse);
        }
    }
    report(0.1, 0.6)(1);
    Inducer<Sym, Row>(text, n, sa, bwt, shape).run(report(0.6, 1));
    report(0, 1)(1);
}

}  // namespace suffix_detail

// Writes the suffix array of text[0, n) to sa[0, n) and, row by row, the symbol to the left of each suffix to
// bwt[0, n): bwt[k] = text[sa[k] - 1], or 0 where sa[k] = 0. The transform costs no time: sorting needs it.
//
// text: symbols below sigma, the last one 0. Row: std::uint32_t for n < 2^32 - 1, else std::uint64_t.
// threads: 0 counts as 1. progress: called with a fraction in [0, 1], ascending, on the calling thread only; what
// it throws passes through (sa and bwt are then unspecified).
// Memory beside text, sa and bwt: 0.2 to 1 byte per symbol (each further thread adds some 0.4) and 4 rows per symbol of
// the alphabet and thread; on texts that repeat themselves almost whole up to 6 bytes per symbol, of which tie_bytes
// may be beyond the first.
// Throws std::invalid_argument for a text that breaks the contract, TiesTooLong, std::bad_alloc, std::system_error.
template <class Sym, class Row>
void suffix_sort_bwt(const Sym* text, Row* sa, Sym* bwt, std::size_t n, std::size_t sigma, unsigned threads,
                     const std::function<void(double)>& progress = {}, std::size_t tie_bytes = ~std::size_t{0}) {
    static_assert(std::is_same_v<Sym, std::uint16_t> || std::is_same_v<Sym, std::uint32_t>);
    static_assert(std::is_same_v<Row, std::uint32_t> || std::is_same_v<Row, std::uint64_t>);
    using namespace suffix_detail;
    if (n == 0) return;
    if (n >= std::numeric_limits<Row>::max())
        throw std::invalid_argument("suffix_sort: " + std::to_string(n) + " symbols do not fit the row type");
    check_text(text, n, sigma);
    if (threads == 0) threads = 1;
    auto report = [&](double from, double to) {
        return [&progress, from, to](double part) {
            if (progress) progress(from + (to - from) * part);
        };
    };
    TieLimits limits;
    limits.bytes = tie_bytes;
    sort_suffixes(text, sa, bwt, n, sigma, threads, report, limits);
}

// The suffix array alone: as suffix_sort_bwt, with the transform in scratch memory (sizeof(Sym) bytes per symbol).
template <class Sym, class Row>
void suffix_sort(const Sym* text, Row* sa, std::size_t n, std::size_t sigma, unsigned threads,
                 const std::function<void(double)>& progress = {}) {
    const std::unique_ptr<Sym[]> bwt(n ? new Sym[n] : nullptr);
    suffix_sort_bwt(text, sa, bwt.get(), n, sigma, threads, progress);
}

}  // namespace gemkr
