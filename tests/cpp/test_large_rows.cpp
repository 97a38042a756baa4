// Rows beyond 2^31 and 2^32 without the memory for them: temporary files with holes, documents and packed numbers far out.

#include <cstdio>
#include <cstdlib>

#include "locate_build.hpp"
#include "packed.hpp"
#include "spill.hpp"

using namespace gemkr;

namespace {

void require(bool fits, const char* what) {
    if (fits) return;
    std::printf("wrong: %s\n", what);
    std::exit(1);
}

struct Pair {
    u64 row, value;
};

template <class T, class Make>
void write_and_read(const char* folder, u64 first, u64 count, Make&& make) {
    SpillFile file(folder);
    SpillWriter<T> writer(file, first);
    for (u64 k = 0; k < count; ++k) writer.put(make(first + k));
    writer.flush();
    SpillReader<T> reader(file, first, count);
    for (u64 k = 0; k < count; ++k) {
        const T got = reader.next(), wanted = make(first + k);
        require(std::memcmp(&got, &wanted, sizeof(T)) == 0, "a value of a temporary file");
    }
    require(reader.left() == 0, "what is left of a temporary file");
}

}  // namespace

int main(int, char** arguments) {
    for (const u64 border : {u64{1} << 31, u64{1} << 32, u64{3'300'000'000}, u64{1} << 33}) {
        const u64 first = border - 70'000, count = 140'000;
        write_and_read<u16>(arguments[1], first, count, [](u64 row) { return static_cast<u16>(row * 7); });
        write_and_read<u32>(arguments[1], first, count, [](u64 row) { return static_cast<u32>(row * 7); });
        write_and_read<Pair>(arguments[1], first, count, [](u64 row) { return Pair{row, row / 32}; });

        std::vector<u64> starts = {0, first - 5};  // two long documents, then one of 1, 2, 3, ... rows
        while (starts.back() < first + count) starts.push_back(starts.back() + starts.size());
        const DocumentFinder finder(starts, first, count);
        for (u64 at = first, doc = 1; at < first + count; ++at) {
            while (starts[doc + 1] <= at) ++doc;
            require(finder.at(at) == doc, "the document of a row");
        }

        const unsigned width = bit_width(first + count);
        Buffer packed(packed_bytes(count, width));
        for (u64 k = 0; k < count; ++k) write_bits(packed.data(), k * width, width, first + k);
        for (u64 k = 0; k < count; ++k) require(read_bits(packed.data(), k * width, width) == first + k, "a packed row");
    }
    return 0;
}
