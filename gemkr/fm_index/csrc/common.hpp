// Words that every file of the index shares: integer names, the errors, little helpers for bits and memory.
// Knows nothing of indexes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#define GEMKR_X86
#endif

namespace gemkr {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

// The documents, ids or parameters of a build are wrong.
struct BuildError : std::runtime_error {
    using std::runtime_error::runtime_error;
};
// A span, document or array of a query does not fit the index.
struct QueryError : std::runtime_error {
    using std::runtime_error::runtime_error;
};
// The file is not an index of this version or is cut short.
struct FormatError : std::runtime_error {
    using std::runtime_error::runtime_error;
};
// A part of the file does not hold what was written.
struct CorruptError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline unsigned bit_width(u64 x) { return x ? 64u - static_cast<unsigned>(__builtin_clzll(x)) : 0u; }
inline u64 low_bits(unsigned count) { return count >= 64 ? ~u64{0} : (u64{1} << count) - 1; }
inline u64 ceil_div(u64 a, u64 b) { return (a + b - 1) / b; }

template <class T>
inline T load_unaligned(const void* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
}

inline void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }

}  // namespace gemkr
