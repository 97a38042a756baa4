#include "spill.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace gemkr {

SpillFile::SpillFile(std::string folder) : folder_(std::move(folder)) {
#ifdef O_TMPFILE
    descriptor_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor_ >= 0) return;
#endif
    // For file systems without O_TMPFILE: mkstemp puts letters in the place of the Xs, and the name is gone at once.
    std::string name = folder_ + "/.gemkr-build-XXXXXX";
    descriptor_ = ::mkstemp(name.data());
    if (descriptor_ < 0) fail("cannot make a temporary file");
    ::unlink(name.c_str());
    ::fcntl(descriptor_, F_SETFD, FD_CLOEXEC);
}

SpillFile::~SpillFile() { ::close(descriptor_); }

void SpillFile::fail(const char* what) const {
    throw std::system_error(errno, std::generic_category(), what + (" in " + folder_));
}

void SpillFile::write(u64 at, const void* data, u64 size) {
    const u8* from = static_cast<const u8*>(data);
    while (size) {
        const ssize_t done = ::pwrite(descriptor_, from, std::min<u64>(size, u64{1} << 30), static_cast<off_t>(at));
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) fail("cannot write a temporary file");
        from += done;
        at += static_cast<u64>(done);
        size -= static_cast<u64>(done);
    }
}

void SpillFile::read(u64 at, void* data, u64 size) const {
    u8* to = static_cast<u8*>(data);
    while (size) {
        const ssize_t done = ::pread(descriptor_, to, std::min<u64>(size, u64{1} << 30), static_cast<off_t>(at));
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = EIO;
        if (done <= 0) fail("cannot read a temporary file");
        to += done;
        at += static_cast<u64>(done);
        size -= static_cast<u64>(done);
    }
}

}  // namespace gemkr
