// Threads of the suffix sorter: run one function on several threads and pass on the first exception.
//
// Knows nothing of texts or suffixes. Threads live for one call; a build makes a handful of such calls.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace gemkr::suffix_detail {

// Calls work(t) for t in [0, threads); t = 0 runs on the calling thread. Rethrows the first exception after
// every thread has ended.
template <class Work>
void run_threads(unsigned threads, Work&& work) {
    if (threads <= 1) {
        work(0u);
        return;
    }
    std::exception_ptr failure;
    std::mutex guard;
    auto guarded = [&](unsigned t) {
        try {
            work(t);
        } catch (...) {
            std::lock_guard<std::mutex> lock(guard);
            if (!failure) failure = std::current_exception();
        }
    };
    std::vector<std::thread> pool;
    pool.reserve(threads - 1);
    try {
        for (unsigned t = 1; t < threads; ++t) pool.emplace_back(guarded, t);
    } catch (...) {
        std::lock_guard<std::mutex> lock(guard);
        failure = std::current_exception();
    }
    if (pool.size() + 1 == threads) guarded(0u);
    for (auto& thread : pool) thread.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace gemkr::suffix_detail
