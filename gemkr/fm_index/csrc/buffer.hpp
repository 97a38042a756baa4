// Owned memory, aligned to cache lines and zeroed, straight from the operating system.
#pragma once

#include <sys/mman.h>

#include <new>
#include <utility>

#include "common.hpp"

namespace gemkr {

// Pages of its own: on Linux growing and shrinking remaps them instead of copying.
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(std::size_t size) { resize(size); }
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(); }

    // New bytes are zero. Throws std::bad_alloc.
    void resize(std::size_t size) {
        const std::size_t room = (size + PAGE - 1) / PAGE * PAGE;
        if (room != room_) {
            if (room == 0) {
                release();
            } else {
                base_ = base_ ? remap(room) : map(room);
                room_ = room;
#ifdef MADV_HUGEPAGE
                if (room >= HUGE) madvise(base_, room, MADV_HUGEPAGE);
#endif
            }
        }
        size_ = size;
    }
    void release() {
        if (base_) munmap(base_, room_);
        base_ = nullptr;
        size_ = room_ = 0;
    }
    void swap(Buffer& other) noexcept {
        std::swap(base_, other.base_);
        std::swap(size_, other.size_);
        std::swap(room_, other.room_);
    }

    u8* data() { return base_; }
    const u8* data() const { return base_; }
    std::size_t size() const { return size_; }
    template <class T>
    T* as() {
        return reinterpret_cast<T*>(base_);
    }
    template <class T>
    const T* as() const {
        return reinterpret_cast<const T*>(base_);
    }

private:
    static u8* map(std::size_t room) {
        void* at = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
        return static_cast<u8*>(at);
    }
    u8* remap(std::size_t room) {
#ifdef MREMAP_MAYMOVE
        void* at = mremap(base_, room_, room, MREMAP_MAYMOVE);
        if (at == MAP_FAILED) throw std::bad_alloc();
        return static_cast<u8*>(at);
#else
        u8* at = map(room);
        std::memcpy(at, base_, room < room_ ? room : room_);
        munmap(base_, room_);
        return at;
#endif
    }

    static constexpr std::size_t PAGE = 4096, HUGE = std::size_t{4} << 20;
    u8* base_ = nullptr;
    std::size_t size_ = 0, room_ = 0;
};

}  // namespace gemkr
