#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

namespace paella {

// From one thread to one other, in order; neither ever waits. Room for `capacity` things at a
// time, rounded up to a power of two.
template <class T>
class SpscQueue {
 public:
  explicit SpscQueue(std::size_t capacity) {
    std::size_t size = 1;
    while (size < capacity) size *= 2;
    items_.resize(size);
  }

  // By the one thread: false, and nothing done, where there is no room.
  bool push(const T& item) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == items_.size()) return false;
    items_[tail & (items_.size() - 1)] = item;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  // By the other: the first thing, or none.
  const T* front() const {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return nullptr;
    return &items_[head & (items_.size() - 1)];
  }
  // After front() gave one, which is gone then.
  void pop() {
    head_.store(head_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

 private:
  std::vector<T> items_;
  alignas(64) std::atomic<std::size_t> head_{0};
  alignas(64) std::atomic<std::size_t> tail_{0};
};

}  // namespace paella
