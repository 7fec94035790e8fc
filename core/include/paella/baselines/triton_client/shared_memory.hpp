#pragma once

#include <cstddef>
#include <string>

namespace paella::triton {

// POSIX shared memory of this process, all zero at first. Its name begins with paella-triton-PID,
// by which it is found should this process be killed.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Those who have opened it keep it.
  void unlink();
  const std::string& name() const { return name_; }
  unsigned char* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::string name_;
  std::size_t bytes_;
  unsigned char* data_ = nullptr;
  bool linked_ = true;
};

}  // namespace paella::triton
