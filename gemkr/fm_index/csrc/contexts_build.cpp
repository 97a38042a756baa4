#include "contexts_build.hpp"

#include <algorithm>
#include <memory>

#include "contexts.hpp"
#include "packed.hpp"

namespace gemkr {

namespace {

constexpr u64 MIN_ROWS = 12;           // smaller contexts are walked faster than looked up
constexpr u64 MAX_PASSES = 24;         // rows read, as a multiple of the text: bounds the time on repetitive texts
constexpr u64 BITMAP_FACTOR = 3;       // a bitmap may be this much larger than the coded tokens: it is copied, not decoded
constexpr std::size_t AHEAD = 32;      // contexts per thread that are worked out ahead
constexpr u64 ROWS_AT_ONCE = 1 << 14;

struct Context {
    u64 size, lo;
    bool operator==(const Context& other) const { return size == other.size && lo == other.lo; }
};
// The order in which contexts are taken.
struct Before {
    bool operator()(const Context& a, const Context& b) const { return a.size != b.size ? a.size > b.size : a.lo < b.lo; }
};
struct After {
    bool operator()(const Context& a, const Context& b) const { return Before()(b, a); }
};
// 40 bits for rows, 44 for a place: there may be many.
class Entry {
public:
    Entry(const Context& context, u64 place)
        : lo_(context.lo << 24 | place >> 20), size_(context.size << 20 | (place & 0xfffff)) {}
    u64 lo() const { return lo_ >> 24; }
    u64 size() const { return size_ >> 20; }
    u64 place() const { return (lo_ & 0xffffff) << 20 | (size_ & 0xfffff); }

private:
    u64 lo_, size_;
};

void append_varint(std::vector<u8>& out, u64 value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<u8>(value | 0x80));
    out.push_back(static_cast<u8>(value));
}

// The list as contexts.hpp describes it, appended to out.
void append_list(std::vector<u8>& out, const View& view, const std::vector<u32>& symbols, const u64* counts) {
    const u64 k = symbols.size(), vocab = view.vocab_size;
    const bool bitmap = list_token_bytes(vocab, k, true) <= BITMAP_FACTOR * list_token_bytes(vocab, k, false);
    append_varint(out, k << 1 | (bitmap ? 1 : 0));
    const std::size_t at = out.size();
    out.resize(at + list_token_bytes(vocab, k, bitmap) + ceil_div(k, 2) + PACKED_SLACK, 0);
    u8* base = out.data() + at;
    const unsigned width = list_low_bits(vocab, k);
    u8* high = base + ceil_div(k * width, 8);
    for (u64 i = 0; i < k; ++i) {
        const u64 token = view.tokens[symbols[i]];
        if (bitmap) {
            base[token >> 3] = static_cast<u8>(base[token >> 3] | 1u << (token & 7));
        } else {
            if (width) write_bits(base, i * width, width, token);
            const u64 bit = (token >> width) + i;
            high[bit >> 3] = static_cast<u8>(high[bit >> 3] | 1u << (bit & 7));
        }
    }
    u8* nibbles = base + list_token_bytes(vocab, k, bitmap);
    for (u64 i = 0; i < k; ++i)
        nibbles[i >> 1] = static_cast<u8>(nibbles[i >> 1] | std::min<u64>(counts[symbols[i]], 15) << 4 * (i & 1));
    out.resize(out.size() - PACKED_SLACK);
    for (u64 i = 0; i < k; ++i)
        if (counts[symbols[i]] >= 15) append_varint(out, counts[symbols[i]] - 15);
}

u64 context_entry_bytes(u64 rows) { return ceil_div(2 * bit_width(rows), 8) + sizeof(u32); }

// No list is shorter.
u64 min_list_bytes(u64 vocab) { return vocab < 1024 ? 2 : 2 + list_token_bytes(vocab, 1, false); }

// What a context brings when it is taken.
struct Gain {
    std::vector<u8> list;
    std::vector<Context> children;  // those large enough for an entry of their own
};

// Contexts are taken one by one in an order that no number of threads changes; what they bring is worked out ahead, in
// parallel, for those that are next in line.
template <class Sym>
class Chooser {
public:
    Chooser(const Transform<Sym>& transform, const View& view, const Kernels& kernels, Pool& pool, u64 budget)
        : transform_(transform), view_(view), kernels_(kernels), pool_(pool), budget_(budget),
          entry_bytes_(context_entry_bytes(view.n_rows)), rows_left_(view.n_rows * MAX_PASSES), workers_(pool.threads()) {
        entries_.reserve(most_left());
        waiting_.reserve(prune_at_ = prune_size(most_left()));
    }

    void run(const std::function<void(double)>& progress) {
        waiting_.push_back({view_.n_rows, 0});
        Context last{0, 0};
        double told = 0;
        while (!waiting_.empty() || !ready_.empty()) {
            if (ready_.empty() || (!waiting_.empty() && Before()(waiting_.front(), ready_.front().context))) {
                look_ahead();
                const double share = std::min(1.0, static_cast<double>(spent()) / static_cast<double>(budget_ + 1));
                if (share >= told + 0.01) progress(told = share);
                continue;
            }
            std::pop_heap(ready_.begin(), ready_.end(), ReadyAfter());
            const Ready next = std::move(ready_.back());
            ready_.pop_back();
            if (next.context == last) continue;
            last = next.context;
            if (last.size > rows_left_) break;
            rows_left_ -= last.size;
            if (!take(next)) break;
        }
        std::vector<Context>().swap(waiting_);
        std::vector<Ready>().swap(ready_);
        std::vector<Worker>().swap(workers_);
        lists_.resize(used_ + LIST_SLACK);
    }

    Buffer& lists() { return lists_; }
    std::vector<Entry>& entries() { return entries_; }

private:
    struct Ready {
        Context context;
        std::shared_ptr<const Gain> gain;
    };
    struct ReadyAfter {
        bool operator()(const Ready& a, const Ready& b) const { return After()(a.context, b.context); }
    };
    // What a thread needs for itself.
    struct Worker {
        std::vector<u64> counts;
        std::vector<Sym> rows;
        std::vector<u32> found;
        std::vector<i64> tokens, lo, hi;   // of the children
        std::vector<std::size_t> first;    // child of each context
    };
    static std::size_t prune_size(u64 most) { return static_cast<std::size_t>(4096 + most + most / 8); }
    // More contexts than this cannot be taken any more.
    u64 most_left() const {
        const u64 bytes = budget_ > spent() ? budget_ - spent() : 0;
        return std::min(bytes / (entry_bytes_ + min_list_bytes(view_.vocab_size)), rows_left_ / MIN_ROWS) + 1;
    }
    u64 spent() const { return used_ + entries_.size() * entry_bytes_; }

    // Works out the contexts that are next in line.
    void look_ahead() {
        std::vector<Ready> found;
        std::vector<Context> contexts;
        std::vector<std::shared_ptr<Gain>> gains;
        while (contexts.size() < AHEAD * workers_.size() && !waiting_.empty()) {
            std::pop_heap(waiting_.begin(), waiting_.end(), After());
            const Context context = waiting_.back();
            waiting_.pop_back();
            if (found.empty() || !(found.back().context == context)) {
                contexts.push_back(context);
                gains.push_back(std::make_shared<Gain>());
            }
            found.push_back({context, gains.back()});
        }
        // Neighbours are of like size: dealing them out in turn gives every thread the same work.
        pool_.run(std::min(contexts.size(), workers_.size()),
                  [&](std::size_t worker) { work_out(contexts, gains, worker); });
        for (Ready& ready : found) {
            ready_.push_back(std::move(ready));
            std::push_heap(ready_.begin(), ready_.end(), ReadyAfter());
        }
    }

    // The worker's share: every workers_.size()-th context.
    void work_out(const std::vector<Context>& contexts, const std::vector<std::shared_ptr<Gain>>& gains,
                  std::size_t worker) {
        Worker& w = workers_[worker];
        w.counts.resize(view_.sigma, 0);
        w.rows.resize(ROWS_AT_ONCE);
        w.tokens.clear();
        w.lo.clear();
        w.hi.clear();
        w.first.assign(1, 0);
        for (std::size_t k = worker; k < contexts.size(); k += workers_.size()) {
            const Context& context = contexts[k];
            w.found.clear();
            for (u64 done = 0; done < context.size; done += ROWS_AT_ONCE) {
                const u64 some = std::min(ROWS_AT_ONCE, context.size - done);
                const Sym* const symbols = transform_.rows(context.lo + done, some, w.rows.data());
                for (u64 row = 0; row < some; ++row) {
                    const u32 symbol = symbols[row];
                    if (w.counts[symbol]++ == 0 && symbol != 0) w.found.push_back(symbol);
                }
            }
            if (w.found.size() * 16 > view_.sigma) {
                w.found.clear();
                for (u32 symbol = 1; symbol < view_.sigma; ++symbol)
                    if (w.counts[symbol]) w.found.push_back(symbol);
            } else {
                std::sort(w.found.begin(), w.found.end());
            }
            append_list(gains[k]->list, view_, w.found, w.counts.data());
            for (u32 symbol : w.found) {
                if (w.counts[symbol] >= MIN_ROWS) {
                    w.tokens.push_back(view_.tokens[symbol]);
                    w.lo.push_back(static_cast<i64>(context.lo));
                    w.hi.push_back(static_cast<i64>(context.lo + context.size));
                }
                w.counts[symbol] = 0;
            }
            w.counts[0] = 0;
            w.first.push_back(w.tokens.size());
        }
        kernels_.extend_many(view_, w.lo.data(), w.hi.data(), w.tokens.data(), w.lo.data(), w.hi.data(), w.tokens.size());
        for (std::size_t k = worker, own = 0; k < contexts.size(); k += workers_.size(), ++own)
            for (std::size_t child = w.first[own]; child < w.first[own + 1]; ++child)
                gains[k]->children.push_back(
                    {static_cast<u64>(w.hi[child] - w.lo[child]), static_cast<u64>(w.lo[child])});
    }

    // False when the budget is spent. The first context, the root, is taken whatever it costs.
    bool take(const Ready& next) {
        const std::vector<u8>& list = next.gain->list;
        if (spent() + list.size() + entry_bytes_ > budget_ && !entries_.empty()) return false;
        const std::size_t needed = used_ + list.size() + LIST_SLACK;
        if (needed > lists_.size()) lists_.resize(needed + needed / 2);
        std::memcpy(lists_.data() + used_, list.data(), list.size());
        entries_.emplace_back(next.context, used_);
        used_ += list.size();
        for (const Context& child : next.gain->children) {
            waiting_.push_back(child);
            std::push_heap(waiting_.begin(), waiting_.end(), After());
        }
        if (waiting_.size() > prune_at_) prune();
        return true;
    }

    // Forgets contexts that cannot be reached before the budget or the rows are spent.
    void prune() {
        const u64 most = most_left();
        std::sort(waiting_.begin(), waiting_.end(), Before());
        u64 different = 0;
        std::size_t kept = 0;
        for (; kept < waiting_.size(); ++kept) {
            different += kept == 0 || !(waiting_[kept] == waiting_[kept - 1]);
            if (different > most) break;
        }
        waiting_.resize(kept);
        prune_at_ = std::max<std::size_t>(prune_size(most), kept + kept / 8);
    }

    const Transform<Sym>& transform_;
    const View& view_;
    const Kernels& kernels_;
    Pool& pool_;
    const u64 budget_, entry_bytes_;
    u64 rows_left_;
    std::vector<Context> waiting_;  // heap
    std::vector<Ready> ready_;      // heap
    std::size_t prune_at_ = 0;
    Buffer lists_;
    u64 used_ = 0;
    std::vector<Entry> entries_;
    std::vector<Worker> workers_;
};

}  // namespace

u64 context_memory(u64 rows, u64 vocab, u64 budget) {
    const u64 most = budget / (context_entry_bytes(rows) + min_list_bytes(vocab)) + 1;
    return budget + most * (sizeof(Entry) + sizeof(Context) + sizeof(Context) / 8);
}

template <class Sym>
ContextSections build_contexts(const Transform<Sym>& transform, const View& view, const Kernels& kernels, Pool& pool, u64 budget,
                               const std::function<void(double)>& progress) {
    ContextSections out;
    if (view.n_tokens == 0) return out;
    Chooser<Sym> chooser(transform, view, kernels, pool, budget);
    chooser.run(progress);
    std::vector<Entry>& entries = chooser.entries();
    const u64 lists_size = chooser.lists().size() - LIST_SLACK;
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.lo() != b.lo() ? a.lo() < b.lo() : a.size() < b.size(); });
    out.count = entries.size();
    while (out.shift < view.row_bits && (view.n_rows >> out.shift) > out.count) ++out.shift;
    const unsigned place_bits = bit_width(lists_size), stride = out.shift + view.row_bits + place_bits;
    out.buckets.resize(((view.n_rows >> out.shift) + 2) * 4);
    out.entries.resize(packed_bytes(out.count, stride));
    out.lists = std::move(chooser.lists());
    u32* buckets = out.buckets.as<u32>();
    for (const Entry& entry : entries) ++buckets[(entry.lo() >> out.shift) + 1];
    for (u64 b = 0; b < (view.n_rows >> out.shift) + 1; ++b) buckets[b + 1] += buckets[b];
    for (std::size_t k = 0; k < entries.size(); ++k) {
        u8* at = out.entries.data();
        const u64 bit = k * stride;
        write_bits(at, bit, out.shift, entries[k].lo());
        write_bits(at, bit + out.shift, view.row_bits, entries[k].size());
        write_bits(at, bit + out.shift + view.row_bits, place_bits, entries[k].place());
    }
    return out;
}

template ContextSections build_contexts<u16>(const Transform<u16>&, const View&, const Kernels&, Pool&, u64,
                                            const std::function<void(double)>&);
template ContextSections build_contexts<u32>(const Transform<u32>&, const View&, const Kernels&, Pool&, u64,
                                            const std::function<void(double)>&);

}  // namespace gemkr
