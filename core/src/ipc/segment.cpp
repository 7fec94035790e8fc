#include "paella/ipc/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "paella/error.hpp"

// Of Linux 5.1; older headers do not name it.
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace paella::ipc {
namespace {

[[noreturn]] void fail(std::size_t bytes) {
  throw Error("the server cannot share " + std::to_string(bytes) +
              " bytes with a client: " + std::strerror(errno));
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.release();
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

int Descriptor::release() { return std::exchange(fd_, -1); }

Segment::Segment(std::size_t bytes, Access access) : bytes_(bytes) {
  descriptor_ = Descriptor(memfd_create("paella", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int fd = descriptor_.get();
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail(bytes);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) fail(bytes);
  data_ = data;
  // The server's mapping came before the seal, and stays writable.
  const int writing = access == Access::kServerWrites ? F_SEAL_FUTURE_WRITE : 0;
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | writing) != 0) {
    const int why = errno;
    munmap(data_, bytes_);
    errno = why;
    fail(bytes);
  }
}

Segment::Segment(Segment&& other) noexcept
    : descriptor_(std::move(other.descriptor_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_) {}

Segment::~Segment() {
  if (data_) munmap(data_, bytes_);
}

}  // namespace paella::ipc
