// The kernels, compiled for each kind of processor that this one may be, and chosen as the program runs.
//
// Vectors are as wide as the processor's registers: wider ones a compiler keeps in memory, which made MaxSim thirty times slower.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "candidates.hpp"
#include "maxsim.hpp"
#include "multiply.hpp"
#include "scan.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gemkr {

// LANE: floats of a register. TILE: tokens that are multiplied together, as many as leave their sums in registers. GEMKR_AVX2 and
// GEMKR_VNNI: whether their instructions may be used (a compiler's own macros do not follow its pragma).
namespace plain {
#if defined(__AVX512F__)
constexpr std::size_t LANE = 16, TILE = 8;
#elif defined(__AVX2__)
constexpr std::size_t LANE = 8, TILE = 3;
#else
constexpr std::size_t LANE = 4, TILE = 1;
#endif
#define GEMKR_VNNI 0
#if defined(__AVX2__) && defined(__F16C__)
#define GEMKR_AVX2 1
#else
#define GEMKR_AVX2 0
#endif
#include "maxsim.inc"
#include "candidates.inc"
#include "scan.inc"
#include "multiply.inc"
#undef GEMKR_AVX2
#undef GEMKR_VNNI
}  // namespace plain

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define GEMKR_SEVERAL_CPUS
#define GEMKR_AVX2 1
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
namespace avx2 {
constexpr std::size_t LANE = 8, TILE = 3;
#include "maxsim.inc"
#include "candidates.inc"
#include "scan.inc"
}  // namespace avx2
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
namespace avx512 {
constexpr std::size_t LANE = 16, TILE = 8;
#include "maxsim.inc"
#include "candidates.inc"
#include "scan.inc"
}  // namespace avx512
#pragma GCC pop_options
#undef GEMKR_AVX2
#define GEMKR_VNNI 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false, of gcc 12's own headers
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,avx512vnni")
namespace vnni {
#include "multiply.inc"
}  // namespace vnni
#pragma GCC pop_options
#pragma GCC diagnostic pop
#undef GEMKR_VNNI

enum class Cpu { PLAIN, AVX2, AVX512 };

inline Cpu this_cpu() {
    static const Cpu found = __builtin_cpu_supports("x86-64-v4")   ? Cpu::AVX512
                             : __builtin_cpu_supports("x86-64-v3") ? Cpu::AVX2
                                                                   : Cpu::PLAIN;
    return found;
}

inline bool multiplies_bytes() {
    static const bool found = this_cpu() == Cpu::AVX512 && __builtin_cpu_supports("avx512vnni");
    return found;
}

template <class... Args>
void score_multiplied(Args&&... args) {
    if (multiplies_bytes()) return vnni::score_multiplied(args...);
    plain::score_multiplied(args...);
}

#define GEMKR_ON_THIS_CPU(name)                                             \
    template <class... Args>                                                \
    void name(Args&&... args) {                                             \
        if (this_cpu() == Cpu::AVX512) return avx512::name(args...);        \
        if (this_cpu() == Cpu::AVX2) return avx2::name(args...);            \
        plain::name(args...);                                               \
    }
#else
inline bool multiplies_bytes() { return false; }
using plain::score_multiplied;
#define GEMKR_ON_THIS_CPU(name) using plain::name;
#endif

GEMKR_ON_THIS_CPU(score_stored)
GEMKR_ON_THIS_CPU(score_coded)
GEMKR_ON_THIS_CPU(products_of)
GEMKR_ON_THIS_CPU(levels_of)
GEMKR_ON_THIS_CPU(score_centroids)
GEMKR_ON_THIS_CPU(score_scanned)

}  // namespace gemkr
