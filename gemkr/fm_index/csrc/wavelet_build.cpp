#include "wavelet_build.hpp"

#include <algorithm>
#include <array>

namespace gemkr {

namespace {

constexpr u64 CHUNK = 4096;  // symbols that go down the levels together
constexpr u64 MIN_PIECE = 1 << 16;

void add_bits(u64* word, u64 bits) { __atomic_fetch_or(word, bits, __ATOMIC_RELAXED); }

u64 lines_of(u64 digits) { return digits / LINE_DIGITS + 1; }
u64 supers_of(u64 digits) { return ceil_div(lines_of(digits), SUPER_LINES); }

// The counters of one level.
void count_level(u64 length, u64* lines, u64* supers) {
    std::array<u64, 4> seen{}, base{};
    const u64 line_count = lines_of(length);
    for (u64 line = 0; line < line_count; ++line) {
        u64* w = lines + line * LINE_WORDS;
        if (line % SUPER_LINES == 0) {
            base = seen;
            std::copy(seen.begin(), seen.end(), supers + line / SUPER_LINES * 4);
        }
        for (unsigned d = 0; d < 4; ++d) w[0] |= (seen[d] - base[d]) << (16 * d);
        u64 low = 0, high = 0, both = 0;
        auto add = [&](u64 l, u64 h) {
            low += static_cast<u64>(__builtin_popcountll(l));
            high += static_cast<u64>(__builtin_popcountll(h));
            both += static_cast<u64>(__builtin_popcountll(l & h));
        };
        for (unsigned word = 1; word < 7; word += 2) add(w[word], w[word + 1]);
        add(w[7] & 0xffffffffu, w[7] >> 32);
        seen[0] += std::min(LINE_DIGITS, length - line * LINE_DIGITS) - low - high + both;
        seen[1] += low - both;
        seen[2] += high - both;
        seen[3] += both;
    }
    for (u64 super = 0; super < supers_of(length); ++super) {
        u64 below = 0;
        for (unsigned d = 0; d < 4; ++d) {
            supers[super * 4 + d] += below;
            below += seen[d];
        }
    }
}

}  // namespace

u64 wavelet_bytes(const CodeBook& book) {
    u64 bytes = 0;
    for (u64 length : book.lengths) bytes += lines_of(length) * LINE_WORDS * 8 + supers_of(length) * 32;
    return bytes;
}

WaveletSections wavelet_room(const CodeBook& book) {
    u64 line_count = 0, super_count = 0;
    for (u64 length : book.lengths) {
        line_count += lines_of(length);
        super_count += supers_of(length);
    }
    WaveletSections out;
    out.lines.resize(line_count * LINE_WORDS * 8);
    out.supers.resize(super_count * 32);
    return out;
}

WaveletWriter::WaveletWriter(const CodeBook& book, const std::vector<u64>& counts, const u64* before,
                             WaveletSections& out)
    : codes_(book.codes) {
    u64* lines = out.lines.as<u64>();
    std::vector<std::size_t> node(codes_.size(), 0);
    std::vector<u64> start(1, 0), seen(1, 0);  // per node of the level: its place, and its rows before this piece
    if (before)
        for (std::size_t s = 0; s < codes_.size(); ++s) seen[0] += before[s];
    for (std::size_t l = 0; l < book.lengths.size(); ++l) {
        first_.push_back(pens_.size());
        const std::size_t nodes = start.size();
        for (std::size_t k = 0; k < nodes; ++k) {
            const u64 at = start[k] + seen[k], line = at / LINE_DIGITS, offset = at % LINE_DIGITS;
            Pen pen;
            pen.word = lines + line * LINE_WORDS + 1 + offset / 64 * 2;
            pen.bit = static_cast<u32>(offset % 64);
            pen.end = offset / 64 == 3 ? 32 : 64;
            pens_.push_back(pen);
        }
        lines += lines_of(book.lengths[l]) * LINE_WORDS;
        std::vector<u64> total(book.leaf_begin[l], 0), before_here(book.leaf_begin[l], 0);
        for (std::size_t s = 0; s < codes_.size(); ++s) {
            if ((codes_[s] >> 58) <= l + 1) continue;
            node[s] += (codes_[s] >> (2 * l) & 3) * nodes;
            total[node[s]] += counts[s];
            if (before) before_here[node[s]] += before[s];
        }
        start.assign(total.size(), 0);
        for (std::size_t k = 1; k < total.size(); ++k) start[k] = start[k - 1] + total[k - 1];
        seen = std::move(before_here);
    }
}

void WaveletWriter::put_down(Pen& pen) {
    if (pen.end == 64) {
        add_bits(pen.word, pen.low);
        add_bits(pen.word + 1, pen.high);
    } else {
        add_bits(pen.word, pen.low | pen.high << 32);
    }
    pen.low = pen.high = 0;
}

template <class Sym>
void WaveletWriter::add(const Sym* symbols, u64 count) {
    std::array<u64, CHUNK> code;
    std::array<u32, CHUNK> node;
    for (; count; symbols += std::min(count, CHUNK), count -= std::min(count, CHUNK)) {
        std::size_t going = std::min(count, CHUNK);
        for (std::size_t k = 0; k < going; ++k) {
            code[k] = codes_[symbols[k]];
            node[k] = 0;
        }
        for (std::size_t l = 0; l < first_.size() && going; ++l) {
            Pen* const pens = pens_.data() + first_[l];
            const std::size_t nodes = (l + 1 < first_.size() ? first_[l + 1] : pens_.size()) - first_[l];
            std::size_t kept = 0;
            for (std::size_t k = 0; k < going; ++k) {
                const u64 own = code[k], digit = own >> (2 * l) & 3;
                const u32 here = node[k];
                Pen& pen = pens[here];
                pen.low |= (digit & 1) << pen.bit;
                pen.high |= (digit >> 1) << pen.bit;
                if (++pen.bit == pen.end) {
                    put_down(pen);
                    pen.word += 2;  // the last word of a line is followed by the next line's counters
                    pen.bit = 0;
                    pen.end = (reinterpret_cast<std::uintptr_t>(pen.word) >> 3 & 7) == 7 ? 32 : 64;
                }
                code[kept] = own;
                node[kept] = static_cast<u32>(digit * nodes + here);
                kept += (own >> 58) > l + 1;
            }
            going = kept;
        }
    }
}

void WaveletWriter::flush() {
    for (Pen& pen : pens_)
        if (pen.bit) put_down(pen);
}

void count_digits(const CodeBook& book, WaveletSections& sections, Pool& pool) {
    std::vector<u64*> lines(1, sections.lines.as<u64>()), supers(1, sections.supers.as<u64>());
    for (u64 length : book.lengths) {
        lines.push_back(lines.back() + lines_of(length) * LINE_WORDS);
        supers.push_back(supers.back() + supers_of(length) * 4);
    }
    pool.run(book.lengths.size(), [&](std::size_t l) { count_level(book.lengths[l], lines[l], supers[l]); });
}

template <class Sym>
WaveletSections build_wavelet(const Sym* bwt, u64 rows, const CodeBook& book, const std::vector<u64>& counts,
                              Pool& pool) {
    WaveletSections out = wavelet_room(book);
    const u64 pieces = std::max<u64>(1, std::min<u64>(pool.threads(), rows / MIN_PIECE));
    auto border = [&](u64 piece) { return rows * piece / pieces; };
    std::vector<std::vector<u64>> before(pieces);
    if (pieces > 1)
        pool.run(pieces, [&](std::size_t piece) {
            if (piece == 0) return;
            std::vector<u64> own(counts.size(), 0);
            for (u64 row = border(piece - 1); row < border(piece); ++row) ++own[bwt[row]];
            before[piece] = std::move(own);
        });
    for (u64 piece = 2; piece < pieces; ++piece)
        for (std::size_t s = 0; s < counts.size(); ++s) before[piece][s] += before[piece - 1][s];
    pool.run(pieces, [&](std::size_t piece) {
        WaveletWriter writer(book, counts, piece ? before[piece].data() : nullptr, out);
        writer.add(bwt + border(piece), border(piece + 1) - border(piece));
        writer.flush();
    });
    count_digits(book, out, pool);
    return out;
}

template void WaveletWriter::add<u16>(const u16*, u64);
template void WaveletWriter::add<u32>(const u32*, u64);
template WaveletSections build_wavelet<u16>(const u16*, u64, const CodeBook&, const std::vector<u64>&, Pool&);
template WaveletSections build_wavelet<u32>(const u32*, u64, const CodeBook&, const std::vector<u64>&, Pool&);

}  // namespace gemkr
