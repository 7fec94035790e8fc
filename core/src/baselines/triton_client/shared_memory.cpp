#include "paella/baselines/triton_client/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "paella/error.hpp"

namespace paella::triton {
namespace {

std::string new_name() {
  static std::atomic<int> made{0};
  return "/paella-triton-" + std::to_string(getpid()) + "-" + std::to_string(made++);
}

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes) : name_(new_name()), bytes_(bytes) {
  const int fd = shm_open(name_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  void* at = MAP_FAILED;
  // Reserved at once: a full /dev/shm is an error here, and no SIGBUS later.
  int failed = fd < 0 ? errno : posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (failed == 0) {
    at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) failed = errno;
  }
  if (fd >= 0) close(fd);
  if (failed != 0) {
    if (fd >= 0) shm_unlink(name_.c_str());
    throw Error("cannot make " + std::to_string(bytes) + " bytes of shared memory: " +
                std::strerror(failed));
  }
  data_ = static_cast<unsigned char*>(at);
}

void SharedMemory::unlink() {
  if (linked_) shm_unlink(name_.c_str());
  linked_ = false;
}

SharedMemory::~SharedMemory() {
  unlink();
  munmap(data_, bytes_);
}

}  // namespace paella::triton
