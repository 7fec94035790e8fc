#pragma once

#include <cstddef>

namespace paella::ipc {

// A file descriptor with one owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  int get() const { return fd_; }
  int release();

 private:
  int fd_ = -1;
};

// Memory that is shared with one client. It has no name, and nobody can change its size.
class Segment {
 public:
  enum class Access { kBoth, kServerWrites };

  Segment(std::size_t bytes, Access access);
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&&) = delete;
  ~Segment();

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  // To be handed to the client, once; the mapping stays.
  Descriptor take_descriptor() { return Descriptor(descriptor_.release()); }

 private:
  Descriptor descriptor_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace paella::ipc
