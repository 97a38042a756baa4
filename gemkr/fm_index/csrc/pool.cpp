#include "pool.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace gemkr {

unsigned processor_count() {
    const unsigned count = std::thread::hardware_concurrency();
    return count ? count : 1;
}

struct Pool::Shared {
    std::mutex callers;  // held by the one who hands out work
    std::mutex mutex;
    std::condition_variable wake, idle;
    const std::function<void(std::size_t)>* work = nullptr;
    std::atomic<std::size_t> next{0};
    std::size_t pieces = 0;
    u64 round = 0;
    unsigned busy = 0;
    bool stop = false;
    std::exception_ptr error;
    std::vector<std::thread> threads;
    pid_t owner = getpid();

    void take_pieces() {
        try {
            for (std::size_t k; (k = next.fetch_add(1)) < pieces;) (*work)(k);
        } catch (...) {
            next.store(pieces);
            const std::lock_guard<std::mutex> lock(mutex);
            if (!error) error = std::current_exception();
        }
    }

    void serve() {
        u64 seen = 0;
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            wake.wait(lock, [&] { return stop || (round != seen && work); });
            if (stop) return;
            seen = round;
            ++busy;
            lock.unlock();
            take_pieces();
            lock.lock();
            if (--busy == 0) idle.notify_all();
        }
    }
};

Pool::Pool(unsigned threads) : threads_(threads ? threads : processor_count()), shared_(new Shared) {}

Pool::~Pool() {
    if (shared_->owner != getpid()) {  // a fork has no threads to join
        shared_.release();
        return;
    }
    {
        const std::lock_guard<std::mutex> lock(shared_->mutex);
        shared_->stop = true;
    }
    shared_->wake.notify_all();
    for (auto& thread : shared_->threads) thread.join();
}

void Pool::run(std::size_t pieces, const std::function<void(std::size_t)>& work) {
    Shared& s = *shared_;
    std::unique_lock<std::mutex> caller;
    if (threads_ > 1 && pieces > 1 && s.owner == getpid()) caller = std::unique_lock<std::mutex>(s.callers, std::try_to_lock);
    if (!caller.owns_lock()) {
        for (std::size_t k = 0; k < pieces; ++k) work(k);
        return;
    }
    const std::size_t helpers = std::min<std::size_t>(threads_, pieces) - 1;
    while (s.threads.size() < helpers) s.threads.emplace_back([&s] { s.serve(); });
    {
        const std::lock_guard<std::mutex> lock(s.mutex);
        s.work = &work;
        s.pieces = pieces;
        s.next.store(0);
        s.error = nullptr;
        ++s.round;
    }
    for (std::size_t k = 0; k < helpers; ++k) s.wake.notify_one();
    s.take_pieces();
    std::unique_lock<std::mutex> lock(s.mutex);
    s.idle.wait(lock, [&] { return s.busy == 0; });
    s.work = nullptr;
    if (s.error) std::rethrow_exception(s.error);
}

}  // namespace gemkr
