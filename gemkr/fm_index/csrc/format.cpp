#include "format.hpp"

#include <algorithm>

#include "contexts.hpp"
#include "hash.hpp"
#include "packed.hpp"

namespace gemkr {

const std::array<const char*, SECTION_COUNT> SECTION_NAMES = {
    "levels",          "alphabet",      "tokens",  "symbols", "leaves", "supers", "wavelet",   "context_buckets",
    "context_entries", "context_lists", "marks",   "samples", "starts", "ends",   "doc_array", "id_offsets",
    "ids",             "tokenizer",
};

namespace {

constexpr u64 TABLE_BYTES = SECTION_COUNT * sizeof(TableEntry);
constexpr u64 MAX_ROWS = u64{1} << 40;
constexpr u64 MAX_VOCAB = u64{1} << 31;

u64 align(u64 at) { return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

std::string hex(u64 value) {
    static const char* digits = "0123456789abcdef";
    std::string text(16, '0');
    for (unsigned k = 0; k < 16; ++k) text[15 - k] = digits[value >> 4 * k & 15];
    return text;
}

u64 hash_header(Header header) {
    header.header_hash = 0;
    return hash_bytes(&header, sizeof header);
}

void check_hash(const std::string& where, const std::string& what, u64 found, u64 expected) {
    if (found != expected)
        throw CorruptError(where + ": " + what + " has checksum " + hex(found) + " where " + hex(expected) +
                           " was written, so the file is damaged; build the index again or restore the file");
}

// The table that belongs to these section sizes; returns the size of the file.
u64 lay_out(const Sections& sections, std::array<TableEntry, SECTION_COUNT>& table) {
    u64 at = sizeof(Header) + TABLE_BYTES;
    u64 end = at;
    for (unsigned k = 0; k < SECTION_COUNT; ++k) {
        at = align(end);
        TableEntry entry{};
        std::memcpy(entry.name, SECTION_NAMES[k], std::strlen(SECTION_NAMES[k]));
        entry.offset = at;
        entry.size = sections[k].size;
        table[k] = entry;
        end = at + entry.size;
    }
    return end;
}

}  // namespace

u64 image_size(const Sections& sections) {
    std::array<TableEntry, SECTION_COUNT> table;
    return lay_out(sections, table);
}

u64 write_image(Header header, const Sections& sections, const std::function<void(const void*, u64)>& write) {
    std::array<TableEntry, SECTION_COUNT> table;
    std::memcpy(header.magic, MAGIC, 8);
    header.endian = ENDIAN_MARK;
    header.version = FORMAT_VERSION;
    header.section_count = SECTION_COUNT;
    header.file_size = lay_out(sections, table);
    for (unsigned k = 0; k < SECTION_COUNT; ++k) table[k].hash = hash_bytes(sections[k].data, sections[k].size);
    header.table_hash = hash_bytes(table.data(), TABLE_BYTES);
    header.header_hash = hash_header(header);
    write(&header, sizeof header);
    write(table.data(), TABLE_BYTES);
    static const u8 zeros[ALIGNMENT] = {};
    u64 at = sizeof(Header) + TABLE_BYTES;
    for (unsigned k = 0; k < SECTION_COUNT; ++k) {
        if (table[k].offset > at) write(zeros, table[k].offset - at);
        if (sections[k].size) write(sections[k].data, sections[k].size);
        at = table[k].offset + sections[k].size;
    }
    return at;
}

Header open_image(const u8* base, u64 size, const std::string& where, Sections& sections) {
    Header header{};
    if (size < sizeof(Header) + TABLE_BYTES)
        throw FormatError(where + ": the file holds " + std::to_string(size) +
                          " bytes, fewer than the header of an index, so it is no index or was cut short");
    std::memcpy(&header, base, sizeof header);
    if (std::memcmp(header.magic, MAGIC, 8) != 0)
        throw FormatError(where + ": the header does not begin with " + MAGIC + ", so the file is no gemkr index");
    if (header.endian != ENDIAN_MARK)
        throw FormatError(where + ": the header was written with the other byte order (mark " + hex(header.endian) +
                          "); build the index on this kind of machine");
    if (header.version != FORMAT_VERSION)
        throw FormatError(where + ": the header tells format version " + std::to_string(header.version) +
                          ", this gemkr reads version " + std::to_string(FORMAT_VERSION) + "; build the index again");
    check_hash(where, "the header", hash_header(header), header.header_hash);
    if (header.file_size != size)
        throw FormatError(where + ": the file holds " + std::to_string(size) + " bytes where its header tells " +
                          std::to_string(header.file_size) + ", so it was cut short or added to; copy it again");
    if (header.section_count != SECTION_COUNT)
        throw FormatError(where + ": the header tells " + std::to_string(header.section_count) + " sections, not " +
                          std::to_string(unsigned{SECTION_COUNT}));
    const u8* at = base + sizeof(Header);
    check_hash(where, "the section table", hash_bytes(at, TABLE_BYTES), header.table_hash);
    u64 end = sizeof(Header) + TABLE_BYTES;
    for (unsigned k = 0; k < SECTION_COUNT; ++k) {
        const auto entry = load_unaligned<TableEntry>(at + k * sizeof(TableEntry));
        char name[24] = {};
        std::memcpy(name, SECTION_NAMES[k], std::strlen(SECTION_NAMES[k]));
        if (std::memcmp(entry.name, name, sizeof name) != 0 || entry.offset != align(end) || entry.offset > size ||
            entry.size > size - entry.offset)
            throw FormatError(where + ": the section table puts section '" + SECTION_NAMES[k] + "' at byte " +
                              std::to_string(entry.offset) + " with " + std::to_string(entry.size) +
                              " bytes, which this format does not allow");
        sections[k] = {base + entry.offset, entry.size};
        end = entry.offset + entry.size;
    }
    if (end != size)
        throw FormatError(where + ": the section table ends at byte " + std::to_string(end) + " of " +
                          std::to_string(size));
    return header;
}

void verify_image(const u8* base, u64 size, const std::string& where) {
    Sections sections;
    open_image(base, size, where, sections);
    u64 end = sizeof(Header) + TABLE_BYTES;
    for (unsigned k = 0; k < SECTION_COUNT; ++k) {
        const auto entry = load_unaligned<TableEntry>(base + sizeof(Header) + k * sizeof(TableEntry));
        const bool clean = std::all_of(base + end, base + entry.offset, [](u8 byte) { return byte == 0; });
        if (!clean)
            throw CorruptError(where + ": the padding before section '" + SECTION_NAMES[k] +
                               "' is not zero, so the file is damaged; build the index again or restore the file");
        check_hash(where, "section '" + std::string(SECTION_NAMES[k]) + "'", hash_bytes(base + entry.offset, entry.size),
                   entry.hash);
        end = entry.offset + entry.size;
    }
}

View make_view(const Header& h, const Sections& sections, const std::string& where) {
    auto fail = [&](const std::string& why) -> void { throw FormatError(where + ": " + why); };
    auto limit = [&](const char* name, u64 value, u64 most) {
        if (value > most)
            fail(std::string("the header tells ") + name + " = " + std::to_string(value) + ", at most " +
                 std::to_string(most) + " is possible");
    };
    auto expect = [&](SectionId id, u64 size) {
        if (sections[id].size != size)
            fail("section '" + std::string(SECTION_NAMES[id]) + "' holds " + std::to_string(sections[id].size) +
                 " bytes where the header asks for " + std::to_string(size));
    };
    limit("n_rows", h.n_rows, MAX_ROWS);
    limit("n_docs", h.n_docs, h.n_rows);
    limit("n_tokens", h.n_tokens, h.n_rows);
    limit("vocab_size", h.vocab_size, MAX_VOCAB);
    limit("sigma", h.sigma, h.vocab_size + 1);
    limit("level_count", h.level_count, MAX_LEVELS);
    limit("leaf_count", h.leaf_count, h.sigma + 3);
    limit("sample_rate", h.sample_rate, u64{1} << 20);
    limit("context_count", h.context_count, h.n_rows * 64);
    limit("context_shift", h.context_shift, 40);
    if (h.n_tokens + h.n_docs != h.n_rows) fail("the header's numbers of tokens, documents and rows do not add up");
    if (h.sample_rate == 0) fail("the header tells a sample rate of 0");
    if ((h.n_rows == 0) != (h.level_count == 0) || (h.n_rows == 0) != (h.sigma == 0) || (h.n_rows && !h.n_docs))
        fail("the header's numbers of rows, levels and symbols do not fit together");

    View v;
    v.n_rows = h.n_rows;
    v.n_tokens = h.n_tokens;
    v.n_docs = h.n_docs;
    v.vocab_size = h.vocab_size;
    v.sigma = h.sigma;
    v.sample_rate = h.sample_rate;
    v.row_bits = bit_width(h.n_rows);
    v.sample_bits = bit_width(h.n_rows / h.sample_rate);
    v.doc_bits = std::max(1u, bit_width(h.n_docs ? h.n_docs - 1 : 0));
    v.level_count = static_cast<unsigned>(h.level_count);

    expect(LEVELS, h.level_count * sizeof(LevelRecord));
    u64 nodes = 1, leaves = 0, super_words = 0, line_words = 0, length = h.n_rows;
    for (unsigned l = 0; l < v.level_count; ++l) {
        const auto record = load_unaligned<LevelRecord>(sections[LEVELS].data + l * sizeof(LevelRecord));
        const u64 children = 4 * nodes;
        if ((l == 0 && record.length != h.n_rows) || record.length > length || record.leaf_begin > children ||
            (l + 1 == v.level_count) != (record.leaf_begin == 0))
            fail("section 'levels' describes an impossible level " + std::to_string(l));
        length = record.length;
        Level& level = v.levels[l];
        level.length = record.length;
        level.nodes = nodes;
        level.leaf_begin = record.leaf_begin;
        if (l) v.levels[l - 1].next_length = record.length;
        leaves += children - record.leaf_begin;
        limit("leaves", leaves + record.leaf_begin, h.leaf_count);
        nodes = record.leaf_begin;
        const u64 lines = v.level_lines(l);
        line_words += lines * LINE_WORDS;
        super_words += ceil_div(lines, SUPER_LINES) * 4;
    }
    if (leaves != h.leaf_count) fail("section 'levels' and the header disagree on the number of leaves");
    expect(ALPHABET, h.vocab_size * 4);
    expect(TOKENS, h.sigma * 4);
    expect(SYMBOLS, h.sigma * sizeof(SymbolRecord));
    expect(LEAVES, h.leaf_count * 4);
    expect(SUPERS, super_words * 8);
    expect(WAVELET, line_words * 8);
    v.alphabet = reinterpret_cast<const u32*>(sections[ALPHABET].data);
    v.tokens = reinterpret_cast<const u32*>(sections[TOKENS].data);
    v.symbols = reinterpret_cast<const SymbolRecord*>(sections[SYMBOLS].data);
    const u64* line = reinterpret_cast<const u64*>(sections[WAVELET].data);
    const u64* super = reinterpret_cast<const u64*>(sections[SUPERS].data);
    const u32* leaf = reinterpret_cast<const u32*>(sections[LEAVES].data);
    for (unsigned l = 0; l < v.level_count; ++l) {
        Level& level = v.levels[l];
        level.lines = line;
        level.supers = super;
        level.leaves = leaf;
        line += v.level_lines(l) * LINE_WORDS;
        super += ceil_div(v.level_lines(l), SUPER_LINES) * 4;
        leaf += 4 * level.nodes - level.leaf_begin;
    }

    v.context_count = h.context_count;
    v.context_shift = static_cast<unsigned>(h.context_shift);
    if (h.context_count) {
        if (sections[CONTEXT_LISTS].size < LIST_SLACK) fail("section 'context_lists' is too small");
        v.lists_size = sections[CONTEXT_LISTS].size - LIST_SLACK;
        v.context_offset_bits = bit_width(v.lists_size);
        if (v.context_offset_bits > PACKED_MAX_WIDTH) fail("section 'context_lists' is too large");
        expect(CONTEXT_BUCKETS, ((h.n_rows >> h.context_shift) + 2) * 4);
        expect(CONTEXT_ENTRIES,
               packed_bytes(h.context_count, v.context_shift + v.row_bits + v.context_offset_bits));
        v.context_buckets = reinterpret_cast<const u32*>(sections[CONTEXT_BUCKETS].data);
        v.context_entries = sections[CONTEXT_ENTRIES].data;
        v.lists = sections[CONTEXT_LISTS].data;
    } else {
        expect(CONTEXT_BUCKETS, 0);
        expect(CONTEXT_ENTRIES, 0);
        expect(CONTEXT_LISTS, 0);
    }

    v.sample_count = h.n_rows ? (h.n_rows - 1) / h.sample_rate + 1 : 0;
    expect(MARKS, h.n_rows ? (h.n_rows / MARK_BITS + 1) * LINE_WORDS * 8 : 0);
    expect(SAMPLES, h.n_rows ? packed_bytes(v.sample_count, v.sample_bits) : 0);
    expect(STARTS, packed_bytes(h.n_docs + 1, v.row_bits));
    expect(ENDS, packed_bytes(h.n_docs, v.doc_bits));
    expect(DOC_ARRAY, h.flags & HAS_DOC_ARRAY ? packed_bytes(h.n_rows, v.doc_bits) : 0);
    limit("ids", sections[IDS].size, low_bits(PACKED_MAX_WIDTH));
    v.id_bits = bit_width(sections[IDS].size);
    expect(ID_OFFSETS, h.flags & HAS_IDS ? packed_bytes(h.n_docs + 1, v.id_bits) : 0);
    if (!(h.flags & HAS_IDS)) expect(IDS, 0);
    v.marks = reinterpret_cast<const u64*>(sections[MARKS].data);
    v.samples = sections[SAMPLES].data;
    v.starts = sections[STARTS].data;
    v.ends = sections[ENDS].data;
    v.doc_array = h.flags & HAS_DOC_ARRAY ? sections[DOC_ARRAY].data : nullptr;
    return v;
}

}  // namespace gemkr
