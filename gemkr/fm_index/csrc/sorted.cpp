#include "sorted.hpp"

namespace gemkr {

template void suffix_sort_bwt<u16, u32>(const u16*, u32*, u16*, std::size_t, std::size_t, unsigned,
                                        const std::function<void(double)>&, std::size_t);
template void suffix_sort_bwt<u16, u64>(const u16*, u64*, u16*, std::size_t, std::size_t, unsigned,
                                        const std::function<void(double)>&, std::size_t);
template void suffix_sort_bwt<u32, u32>(const u32*, u32*, u32*, std::size_t, std::size_t, unsigned,
                                        const std::function<void(double)>&, std::size_t);
template void suffix_sort_bwt<u32, u64>(const u32*, u64*, u32*, std::size_t, std::size_t, unsigned,
                                        const std::function<void(double)>&, std::size_t);

}  // namespace gemkr
