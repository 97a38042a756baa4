// A fixed workload of the index, to be counted in instructions: index_counts.py runs it under callgrind.
//
// Each stage stands between two requests to callgrind, and so gets a total of its own in the order of STAGES there.
#include <valgrind/callgrind.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "builder.hpp"
#include "documents.hpp"

using namespace gemkr;
using Random = std::mt19937_64;

namespace {

constexpr u64 TOKENS = 200000, DOCUMENTS = 1600, VOCABULARY = 8000, STATES = 640;

struct Corpus {
    std::vector<i64> tokens;
    std::vector<u64> borders;
};

// Words as frequent as natural ones, and copies of earlier stretches.
Corpus make_corpus() {
    Random random(7);
    auto below = [&](u64 limit) { return random() % limit; };
    Corpus out;
    while (out.tokens.size() < TOKENS) {
        const u64 at = out.tokens.size();
        if (at > 1000 && below(40) == 0) {
            const u64 from = below(at - 500), length = 20 + below(100);
            for (u64 k = 0; k < length; ++k) out.tokens.push_back(out.tokens[from + k]);
        } else {
            out.tokens.push_back(static_cast<i64>(below(1 + below(1 + below(VOCABULARY)))));
        }
    }
    for (u64 d = 0; d <= DOCUMENTS; ++d) out.borders.push_back(out.tokens.size() * d / DOCUMENTS);
    return out;
}

std::unique_ptr<Index> build(const Corpus& corpus, u64 block_rows) {
    TextBuilder text(VOCABULARY);
    for (u64 d = 0; d < DOCUMENTS; ++d) {
        const i64* from = corpus.tokens.data() + corpus.borders[d];
        text.add(corpus.borders[d + 1] - corpus.borders[d], [from](u64 k) { return from[k]; });
    }
    BuildOptions options;
    options.threads = 1;
    options.context_bits = 4;
    options.block_rows = block_rows;
    const char* folder = std::getenv("TMPDIR");
    options.work_folder = folder ? folder : "/tmp";
    return build_index(text, nullptr, options);
}

void stage(const std::function<void()>& work) {
    CALLGRIND_ZERO_STATS;
    work();
    CALLGRIND_DUMP_STATS;
}

// The rows of STATES states of `length` tokens, and the token that follows each.
void draw(const Corpus& corpus, const Index& index, u64 length, std::vector<i64>& lo, std::vector<i64>& hi,
          std::vector<i64>& following) {
    Random random(length);
    std::vector<u64> at;
    while (at.size() < STATES) {
        const u64 d = random() % DOCUMENTS, size = corpus.borders[d + 1] - corpus.borders[d];
        if (size > length) at.push_back(corpus.borders[d] + random() % (size - length));
    }
    lo.assign(STATES, 0);
    hi.assign(STATES, static_cast<i64>(index.header().n_rows));
    following.resize(STATES);
    for (u64 k = 0; k <= length; ++k) {
        for (u64 s = 0; s < STATES; ++s) following[s] = corpus.tokens[at[s] + k];
        if (k < length) index.extend_many(lo.data(), hi.data(), following.data(), lo.data(), hi.data(), STATES);
    }
}

}  // namespace

int main() {
    const Corpus corpus = make_corpus();
    std::unique_ptr<Index> index;
    stage([&] { index = build(corpus, 0); });
    stage([&] { build(corpus, 60000); });
    index->set_threads(1);
    std::vector<u32> mask(STATES * ceil_div(VOCABULARY, 32));
    std::vector<i64> lo, hi, following, out_lo(STATES), out_hi(STATES), tokens, counts;
    for (u64 length : {1, 3, 8}) {
        draw(corpus, *index, length, lo, hi, following);
        stage([&] { index->fill_mask(lo.data(), hi.data(), STATES, mask.data()); });
        stage([&] {
            SuccessorTable table;
            table.allocate = [&](std::size_t size) {
                tokens.resize(size);
                counts.resize(size);
                table.tokens = tokens.data();
                table.counts = counts.data();
            };
            index->successors_many(lo.data(), hi.data(), STATES, table);
        });
        stage([&] {
            index->extend_many(lo.data(), hi.data(), following.data(), out_lo.data(), out_hi.data(), STATES);
        });
    }
    std::vector<u64> rows(1000);
    Random random(3);
    for (u64& row : rows) row = random() % index->header().n_rows;
    stage([&] { index->docs_of_rows(rows.data(), rows.size()); });
    return 0;
}
