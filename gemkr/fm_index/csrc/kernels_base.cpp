// The kernels for any processor, and the choice between the tables.
#include "kernels.hpp"

#define GEMKR_ISA base
#include "kernels_isa.hpp"
#include "kernels_follow.hpp"
#include "kernels_documents.hpp"
#include "kernels_build.hpp"

namespace gemkr {

const Kernels base_kernels = {
    "base",         base::extend, base::extend_many, base::count_ends, base::fill_rows,
    base::walk, base::decode, base::positions,   base::extract,
    base::extract_many, base::insert,
};

const Kernels& best_kernels() {
#ifdef GEMKR_X86
    if (__builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return bmi_kernels;
#endif
    return base_kernels;
}

}  // namespace gemkr
