// Hostile files and hostile arguments against the index, meant to be compiled with sanitizers.
//
// fuzz_index files SECONDS SEED: builds small indexes at once and in blocks, damages their files (checksums signed anew,
// so that nothing stops the damage at the door) and asks every query. Any exception of the index is fine, nothing else is.
// fuzz_index readers SECONDS SEED: a few builds on several threads, then one index and many threads; every answer must
// be the first one.
// Prints the number of rounds.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <system_error>
#include <thread>

#include "builder.hpp"
#include "documents.hpp"
#include "hash.hpp"

using namespace gemkr;
using Random = std::mt19937_64;
using Clock = std::chrono::steady_clock;

namespace {

u64 below(Random& random, u64 limit) { return limit ? random() % limit : 0; }

std::string work_folder() {
    const char* folder = std::getenv("TMPDIR");
    return folder ? folder : "/tmp";
}

using Documents = std::vector<std::vector<i64>>;

Documents make_documents(Random& random, u64 most_docs) {
    const i64 stride = below(random, 4) ? 1 : 2200;
    const u64 kinds = 1 + below(random, 30), copies = below(random, 3);
    Documents documents(below(random, most_docs));
    for (auto& document : documents) {
        if (copies == 1 && below(random, 2)) document = documents[below(random, documents.size())];
        document.resize(below(random, 40));
        for (i64& token : document)
            if (copies == 0 || token == 0) token = static_cast<i64>(below(random, kinds)) * stride;
    }
    return documents;
}

std::unique_ptr<Index> build(const Documents& documents, bool with_ids, const BuildOptions& options) {
    TextBuilder text(0);
    IdTable ids;
    for (std::size_t d = 0; d < documents.size(); ++d) {
        text.add(documents[d].size(), [&](u64 k) { return documents[d][k]; });
        const std::string id = "id" + std::to_string(d);
        ids.add(id.data(), id.size());
    }
    return build_index(text, with_ids ? &ids : nullptr, options);
}

std::vector<u8> image_of(const Index& index) {
    std::vector<u8> image;
    write_image(index.header(), index.sections(), [&](const void* data, u64 size) {
        const u8* at = static_cast<const u8*>(data);
        image.insert(image.end(), at, at + size);
    });
    return image;
}

// An index that was built at once, and in blocks with the same bytes.
std::unique_ptr<Index> make_index(Random& random, u64 most_docs = 12, unsigned most_threads = 1) {
    const Documents documents = make_documents(random, most_docs);
    const bool with_ids = below(random, 2);
    BuildOptions options;
    options.sample_rate = 1 + below(random, 9);
    options.doc_array = below(random, 2);
    options.threads = most_threads;
    options.context_bits = static_cast<double>(below(random, 40));
    options.wide_rows = below(random, 2);
    options.tokenizer = "fuzz";
    std::unique_ptr<Index> whole = build(documents, with_ids, options);
    if (documents.empty()) return whole;
    options.work_folder = work_folder();
    options.block_rows = 1 + below(random, 40 * most_docs);
    if (image_of(*build(documents, with_ids, options)) != image_of(*whole)) std::abort();
    return whole;
}

void sign(std::vector<u8>& image) {
    const u64 table = sizeof(Header), table_bytes = SECTION_COUNT * sizeof(TableEntry);
    for (unsigned k = 0; k < SECTION_COUNT; ++k) {
        TableEntry entry;
        u8* at = image.data() + table + k * sizeof entry;
        std::memcpy(&entry, at, sizeof entry);
        if (entry.offset > image.size() || entry.size > image.size() - entry.offset) continue;
        entry.hash = hash_bytes(image.data() + entry.offset, entry.size);
        std::memcpy(at, &entry, sizeof entry);
    }
    Header header;
    std::memcpy(&header, image.data(), sizeof header);
    header.table_hash = hash_bytes(image.data() + table, table_bytes);
    header.header_hash = 0;
    header.header_hash = hash_bytes(&header, sizeof header);
    std::memcpy(image.data(), &header, sizeof header);
}

void damage(std::vector<u8>& image, Random& random) {
    const u64 strokes = 1 + below(random, 6), payload = sizeof(Header) + SECTION_COUNT * sizeof(TableEntry);
    for (u64 k = 0; k < strokes; ++k) {
        const u64 kind = below(random, 10);
        if (kind == 0) {  // a number of the header
            const u64 value = below(random, 3) ? below(random, 64) : random() >> below(random, 64);
            std::memcpy(image.data() + 24 + 8 * below(random, 29), &value, 8);
        } else if (kind == 1) {  // a number of the table
            const u64 value = below(random, 3) ? below(random, 9000) : random() >> below(random, 64);
            std::memcpy(image.data() + sizeof(Header) + 8 * below(random, SECTION_COUNT * 8), &value, 8);
        } else if (kind < 6) {
            image[payload + below(random, image.size() - payload)] = static_cast<u8>(random());
        } else {  // a run of equal bytes
            const u64 from = payload + below(random, image.size() - payload);
            const u8 value = below(random, 2) ? 0xff : static_cast<u8>(random());
            for (u64 at = from; at < std::min<u64>(image.size(), from + 1 + below(random, 24)); ++at) image[at] = value;
        }
    }
}

template <class Query>
void attempt(Query&& query) {
    try {
        query();
    } catch (const QueryError&) {
    } catch (const CorruptError&) {
    }
}

i64 hostile(Random& random, u64 limit) {
    return below(random, 4) ? static_cast<i64>(below(random, limit + 1)) : static_cast<i64>(random());
}

// Every query; the answers folded into one number.
u64 ask_all(const Index& index, Random& random) {
    const u64 n = index.view().n_rows, docs = index.view().n_docs, vocab = index.view().vocab_size;
    u64 fold = 0;
    auto add = [&](u64 value) { fold = fold * 0x9E3779B97F4A7C15u + value; };
    std::vector<i64> lo, hi, tokens;
    for (unsigned k = 0; k < 24; ++k) {
        const i64 a = hostile(random, n), b = below(random, 2) ? a + 1 : hostile(random, n);
        const i64 token = hostile(random, vocab);
        attempt([&] {
            index.check_span(a, b);
            lo.push_back(a);
            hi.push_back(b);
            tokens.push_back(token);
            u64 from = static_cast<u64>(a), to = static_cast<u64>(b);
            const bool some = index.kernels().extend(index.view(), from, to, static_cast<u64>(token));
            add(some ? from * 3 + to : 1);
            add(index.kernels().count_ends(index.view(), static_cast<u64>(a), static_cast<u64>(b)));
        });
        attempt([&] {
            const i64 doc = hostile(random, docs);
            index.check_doc(doc);
            const u64 length = index.doc_length(static_cast<u64>(doc));
            std::vector<i64> out(length + 1);
            index.kernels().extract(index.view(), static_cast<u64>(doc), 0, length, out.data());
            for (u64 j = 0; j < length; ++j) add(static_cast<u64>(out[j]));
            add(index.doc_id(static_cast<u64>(doc)).size());
        });
    }
    std::vector<i64> out_lo(lo.size()), out_hi(lo.size());
    index.extend_many(lo.data(), hi.data(), tokens.data(), out_lo.data(), out_hi.data(), lo.size());
    for (i64 value : out_hi) add(static_cast<u64>(value));
    std::vector<u32> mask(lo.size() * ceil_div(vocab, 32));
    index.fill_mask(lo.data(), hi.data(), lo.size(), mask.data());
    for (u32 word : mask) add(word);
    attempt([&] {
        SuccessorTable table;
        std::vector<i64> found, counts;
        table.allocate = [&](std::size_t size) {
            found.resize(size);
            counts.resize(size);
            table.tokens = found.data();
            table.counts = counts.data();
        };
        index.successors_many(lo.data(), hi.data(), lo.size(), table);
        for (i64 value : found) add(static_cast<u64>(value));
        for (i64 value : counts) add(static_cast<u64>(value));
    });
    std::vector<u64> rows;
    for (unsigned k = 0; n && k < 50; ++k) rows.push_back(below(random, n));
    attempt([&] {
        for (const Occurrence& o : index.locate_rows(rows.data(), rows.size())) add(o.doc * 1000 + o.gap);
    });
    attempt([&] {
        for (u64 doc : index.docs_of_rows(rows.data(), rows.size())) add(doc);
    });
    attempt([&] {
        const DocumentTable table = count_documents(index, lo.data(), hi.data(), lo.size(), 1 + below(random, 9));
        for (u64 doc : table.docs) add(doc);
        for (u64 count : table.counts) add(count);
        if (!lo.empty()) add(sorted_occurrences(index, lo[0], hi[0]).size());
    });
    return fold;
}

struct File {
    std::string path;
    explicit File(const std::string& name) : path(name) {}
    ~File() { unlink(path.c_str()); }
    void write(const std::vector<u8>& bytes) const {
        FILE* file = std::fopen(path.c_str(), "wb");
        if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file) != 0)
            std::abort();
    }
};

u64 fuzz_files(Random& random, Clock::time_point until) {
    const File file(work_folder() + "/gemkr-fuzz-" + std::to_string(getpid()));
    u64 rounds = 0;
    while (Clock::now() < until) {
        const std::unique_ptr<Index> built = make_index(random);
        ask_all(*built, random);
        const std::vector<u8> image = image_of(*built);
        for (unsigned k = 0; k < 20; ++k, ++rounds) {
            std::vector<u8> copy = image;
            damage(copy, random);
            if (below(random, 8)) sign(copy);
            if (below(random, 30) == 0) copy.resize(below(random, copy.size()));
            file.write(copy);
            try {
                Index index(file.path, below(random, 2));
                index.set_threads(1);
                if (below(random, 2)) index.use_kernels("base");
                ask_all(index, random);
                index.verify();
            } catch (const FormatError&) {
            } catch (const CorruptError&) {
            } catch (const std::system_error&) {
            }
        }
    }
    return rounds;
}

u64 many_readers(Random& random, Clock::time_point until) {
    std::unique_ptr<Index> index;
    for (unsigned k = 0; k < 8 || index->view().n_rows == 0; ++k) index = make_index(random, 400, 3);
    index->set_threads(3);
    const u64 seed = random();
    Random first(seed);
    const u64 expected = ask_all(*index, first);
    std::atomic<u64> rounds{0};
    std::vector<std::thread> readers;
    for (unsigned t = 0; t < 4; ++t) {
        readers.emplace_back([&] {
            do {  // at least once, however busy the machine
                Random own(seed);
                if (ask_all(*index, own) != expected) std::abort();
                ++rounds;
            } while (Clock::now() < until);
        });
    }
    for (std::thread& reader : readers) reader.join();
    return rounds;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const auto until = Clock::now() + std::chrono::milliseconds(static_cast<i64>(std::atof(argv[2]) * 1000));
    Random random(std::strtoull(argv[3], nullptr, 10));
    const bool files = std::string(argv[1]) == "files";
    std::printf("%llu\n", static_cast<unsigned long long>(files ? fuzz_files(random, until) : many_readers(random, until)));
    return 0;
}
