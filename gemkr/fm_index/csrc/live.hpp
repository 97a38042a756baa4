// Numbers of documents of several segments without the deleted ones: 0, 1, ... over segments and documents in order.
#pragma once

#include <algorithm>
#include <vector>

#include "common.hpp"

namespace gemkr {

class LiveDocuments {
public:
    struct Place {
        std::size_t segment;
        u64 doc;
    };

    // The next segment: how many documents it has and which are deleted, ascending; the array must live on.
    void add(u64 docs, const i64* deleted, std::size_t deleted_count) {
        segments_.push_back({total_, raw_, deleted, deleted_count});
        total_ += docs - deleted_count;
        raw_ += docs;
    }

    u64 size() const { return total_; }
    u64 size_with_deleted() const { return raw_; }
    // The number of a document if nothing were deleted.
    u64 raw(std::size_t segment, u64 doc) const { return segments_[segment].raw + doc; }

    bool is_deleted(std::size_t segment, u64 doc) const {
        const Segment& s = segments_[segment];
        return std::binary_search(s.deleted, s.deleted + s.count, static_cast<i64>(doc));
    }

    // The number of a document that is not deleted.
    u64 number(std::size_t segment, u64 doc) const {
        const Segment& s = segments_[segment];
        const auto below = std::lower_bound(s.deleted, s.deleted + s.count, static_cast<i64>(doc)) - s.deleted;
        return s.first + doc - static_cast<u64>(below);
    }

    // The document with a number below size().
    Place place(u64 number) const {
        const auto after = std::upper_bound(segments_.begin(), segments_.end(), number,
                                            [](u64 n, const Segment& s) { return n < s.first; });
        const std::size_t segment = static_cast<std::size_t>(after - segments_.begin()) - 1;
        const Segment& s = segments_[segment];
        const u64 left = number - s.first;
        std::size_t low = 0, high = s.count;  // deleted documents at or before the one that is looked for
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            if (static_cast<u64>(s.deleted[middle]) - middle <= left)
                low = middle + 1;
            else
                high = middle;
        }
        return {segment, left + low};
    }

private:
    struct Segment {
        u64 first, raw;  // numbers of its first document
        const i64* deleted;
        std::size_t count;
    };
    std::vector<Segment> segments_;
    u64 total_ = 0, raw_ = 0;
};

}  // namespace gemkr
