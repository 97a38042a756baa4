// Temporary files without a name: whatever happens to the process, nothing of them stays on the disk.
#pragma once

#include <string>
#include <vector>

#include "common.hpp"

namespace gemkr {

// Reading and writing throw std::system_error that names the folder. Readers may share a file with each other.
class SpillFile {
public:
    explicit SpillFile(std::string folder);
    ~SpillFile();
    SpillFile(const SpillFile&) = delete;
    SpillFile& operator=(const SpillFile&) = delete;

    void write(u64 at, const void* data, u64 size);
    void read(u64 at, void* data, u64 size) const;

private:
    [[noreturn]] void fail(const char* what) const;

    std::string folder_;
    int descriptor_ = -1;
};

constexpr std::size_t SPILL_BUFFER_BYTES = 1 << 16;

// Values one after the other, from a place of the file on.
template <class T>
class SpillWriter {
public:
    SpillWriter(SpillFile& file, u64 first) : file_(&file), at_(first * sizeof(T)) {
        buffer_.reserve(SPILL_BUFFER_BYTES / sizeof(T));
    }
    void put(T value) {
        buffer_.push_back(value);
        if (buffer_.size() == SPILL_BUFFER_BYTES / sizeof(T)) flush();
    }
    // After the last value.
    void flush() {
        file_->write(at_, buffer_.data(), buffer_.size() * sizeof(T));
        at_ += buffer_.size() * sizeof(T);
        buffer_.clear();
    }

private:
    SpillFile* file_;
    u64 at_;
    std::vector<T> buffer_;
};

// The values [first, first + count) of a file in order.
template <class T>
class SpillReader {
public:
    SpillReader(const SpillFile& file, u64 first, u64 count) : file_(&file), at_(first * sizeof(T)), left_(count) {}

    // Values that were not taken yet.
    u64 left() const { return left_ + (end_ - next_); }
    T next() {
        if (next_ == end_) fill(1);
        return buffer_[next_++];
    }
    // The next values, at least count of them or all that are left; skip tells how many were taken.
    const T* ahead(std::size_t count) {
        if (end_ - next_ < count) fill(count);
        return buffer_.data() + next_;
    }
    void skip(std::size_t count) { next_ += count; }

private:
    void fill(std::size_t count) {
        const std::size_t kept = end_ - next_, room = count > ROOM ? count : ROOM;
        if (buffer_.size() < room) buffer_.resize(room);
        if (kept) std::memmove(buffer_.data(), buffer_.data() + next_, kept * sizeof(T));
        const u64 some = left_ < room - kept ? left_ : room - kept;
        file_->read(at_, buffer_.data() + kept, some * sizeof(T));
        at_ += some * sizeof(T);
        left_ -= some;
        next_ = 0;
        end_ = kept + static_cast<std::size_t>(some);
    }

    static constexpr std::size_t ROOM = SPILL_BUFFER_BYTES / sizeof(T);
    const SpillFile* file_;
    u64 at_, left_;
    std::vector<T> buffer_;
    std::size_t next_ = 0, end_ = 0;
};

}  // namespace gemkr
