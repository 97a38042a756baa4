// The kernels for x86-64 with popcnt and bmi2. All standard headers come before the target switch, so that
// nothing shared with other files is compiled for it.
#include <algorithm>
#include <string>
#include <vector>

#include "contexts.hpp"
#include "kernels.hpp"

#ifdef GEMKR_X86
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("popcnt,bmi,bmi2,lzcnt")
#define GEMKR_ISA bmi
#define GEMKR_BMI
#include "kernels_isa.hpp"
#include "kernels_follow.hpp"
#include "kernels_documents.hpp"
#include "kernels_build.hpp"
#pragma GCC pop_options

namespace gemkr {

const Kernels bmi_kernels = {
    "bmi",         bmi::extend, bmi::extend_many, bmi::count_ends, bmi::fill_rows,
    bmi::walk, bmi::decode, bmi::positions,   bmi::extract,
    bmi::extract_many, bmi::insert,
};

}  // namespace gemkr
#endif
