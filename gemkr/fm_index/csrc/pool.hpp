// A few threads, made once, that share out the pieces of one loop at a time.
#pragma once

#include <functional>
#include <memory>

#include "common.hpp"

namespace gemkr {

class Pool {
public:
    // threads: how many run in all, the caller included; 0 means one per processor. None is started yet.
    explicit Pool(unsigned threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    unsigned threads() const { return threads_; }

    // Calls work(k) for every k below pieces, on any thread and in any order, and returns when all are done. The
    // first exception is passed on. A second caller at the same time runs its pieces alone; so does a child
    // after fork.
    void run(std::size_t pieces, const std::function<void(std::size_t)>& work);

private:
    struct Shared;
    unsigned threads_;
    std::unique_ptr<Shared> shared_;
};

unsigned processor_count();

}  // namespace gemkr
