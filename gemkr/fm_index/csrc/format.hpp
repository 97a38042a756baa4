// The file: header, section table, sections; how they are written, opened and checked. docs/index-format.md
// describes the whole. Knows sizes and places, not what the sections mean to a query (that is view.hpp).
//
// Packed: integers of a fixed width (packed.hpp). bits(x): the length of x in binary, 0 for 0. Document numbers are
// max(1, bits(documents - 1)) wide.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "view.hpp"

namespace gemkr {

constexpr u32 FORMAT_VERSION = 1;
constexpr u32 ENDIAN_MARK = 0x01020304;
constexpr char MAGIC[9] = "GEMKRFMI";
constexpr u64 ALIGNMENT = 64;

enum SectionId : unsigned {
    LEVELS,           // LevelRecord per level
    ALPHABET,         // per token id: its symbol u32, 0 where the corpus does not hold it
    TOKENS,           // per symbol: its token id u32, all ones for the separator
    SYMBOLS,          // SymbolRecord per symbol
    LEAVES,           // symbols of the leaves u32, level by level; all ones fill up
    SUPERS,           // per level and 256 lines: four u64 (Level::supers)
    WAVELET,          // per level of k digits: k / 224 + 1 lines of 64 bytes
    CONTEXT_BUCKETS,  // u32 per bucket of 2^shift rows: its first entry; one more at the end
    CONTEXT_ENTRIES,  // packed: first row mod 2^shift, size (bits(n_rows)), place in the lists (bits(their bytes))
    CONTEXT_LISTS,    // successor lists (contexts.hpp), then 16 zero bytes
    MARKS,            // lines of 64 bytes: marks before the line u64, 448 bits
    SAMPLES,          // packed, bits(n_rows / rate): position / rate of the marked rows, in row order
    STARTS,           // packed, bits(n_rows): position of each document in the text, and n_rows
    ENDS,             // packed: for the k-th separator of the transform, the document that ends there
    DOC_ARRAY,        // packed: the document of every row; empty without HAS_DOC_ARRAY
    ID_OFFSETS,       // packed, bits(bytes of ids): where each id begins, and their end; empty without HAS_IDS
    IDS,              // the ids in UTF-8, one after the other; without HAS_IDS the document numbers are the ids
    TOKENIZER,        // the tokenizer's fingerprint in UTF-8
    SECTION_COUNT
};

extern const std::array<const char*, SECTION_COUNT> SECTION_NAMES;

enum HeaderFlags : u64 { HAS_DOC_ARRAY = 1, HAS_IDS = 2 };

struct Header {
    char magic[8];
    u32 endian;
    u32 version;
    u64 file_size;
    u64 header_hash;  // XXH64 of the 256 bytes of the header with this field zero
    u64 table_hash;
    u64 section_count;
    u64 n_rows;
    u64 n_tokens;
    u64 n_docs;
    u64 vocab_size;
    u64 sigma;  // symbols in use, the separator included; 0 for no documents
    u64 level_count;
    u64 leaf_count;
    u64 sample_rate;
    u64 flags;
    u64 corpus_hash;     // XXH64 of each document's length (u64) and tokens (u32), then of all ids
    u64 context_budget;  // bytes that entries and lists were allowed to take
    u64 context_count;
    u64 context_shift;
    u64 reserved[13];
};
static_assert(sizeof(Header) == 256);

struct TableEntry {
    char name[24];
    u64 offset;
    u64 size;
    u64 hash;  // XXH64
    u64 reserved[2];
};
static_assert(sizeof(TableEntry) == 64);

struct LevelRecord {
    u64 length;      // digits
    u64 leaf_begin;  // see Level
};

struct Section {
    const u8* data = nullptr;
    u64 size = 0;
};
using Sections = std::array<Section, SECTION_COUNT>;

// Checks every number against every other and makes the view. `where` opens each message. Cost: O(levels).
// Throws FormatError.
View make_view(const Header& header, const Sections& sections, const std::string& where);

// Reads header and table of a whole file in memory and finds the sections. Throws FormatError, CorruptError.
Header open_image(const u8* base, u64 size, const std::string& where, Sections& sections);

// Reads all bytes of a file in memory against its checksums, padding included. Throws CorruptError.
void verify_image(const u8* base, u64 size, const std::string& where);

// Fills in sizes and checksums and hands the file's bytes, in order, to write. Returns the file's size.
u64 write_image(Header header, const Sections& sections, const std::function<void(const void*, u64)>& write);
u64 image_size(const Sections& sections);

}  // namespace gemkr
