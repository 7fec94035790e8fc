#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "paella/error.hpp"

// The containers that policies are made of. All keep their capacity, so that nothing is allocated
// once a run has seen its largest backlog.
namespace paella::sched {

[[noreturn]] inline void nothing_waiting() { throw Error("no job is waiting"); }

// First in, first out.
class Ring {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  std::int32_t front() const {
    if (size_ == 0) nothing_waiting();
    return slots_[head_];
  }

  void push(std::int32_t value) {
    if (size_ == slots_.size()) grow();
    slots_[(head_ + size_) & (slots_.size() - 1)] = value;
    ++size_;
  }

  std::int32_t pop() {
    const std::int32_t value = front();
    head_ = (head_ + 1) & (slots_.size() - 1);
    --size_;
    return value;
  }

 private:
  void grow() {
    std::vector<std::int32_t> larger(std::max<std::size_t>(16, 2 * slots_.size()));
    for (std::size_t i = 0; i < size_; ++i) larger[i] = slots_[(head_ + i) & (slots_.size() - 1)];
    slots_ = std::move(larger);
    head_ = 0;
  }

  std::vector<std::int32_t> slots_;  // a power of two of them
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

struct Ranked {
  double key;
  std::uint64_t order;  // of the push
  std::int32_t job;
};

inline bool before(const Ranked& a, const Ranked& b) {
  return a.key != b.key ? a.key < b.key : a.order < b.order;
}

// Smallest key first, equal keys in the order of their pushes.
class JobHeap {
 public:
  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }

  const Ranked& top() const {
    if (entries_.empty()) nothing_waiting();
    return entries_.front();
  }

  void push(const Ranked& entry) {
    entries_.push_back(entry);
    std::push_heap(entries_.begin(), entries_.end(), after);
  }

  std::int32_t pop() {
    const std::int32_t job = top().job;
    std::pop_heap(entries_.begin(), entries_.end(), after);
    entries_.pop_back();
    return job;
  }

 private:
  static bool after(const Ranked& a, const Ranked& b) { return before(b, a); }

  std::vector<Ranked> entries_;
};

// A heap of models whose ranks change: `first(a, b)` says whether model a goes before model b.
template <class First>
class ModelHeap {
 public:
  explicit ModelHeap(First first) : first_(std::move(first)) {}

  std::size_t size() const { return heap_.size(); }
  std::int32_t top() const { return heap_.front(); }

  // Puts the model where it belongs after its rank has changed, or adds it.
  void update(std::int32_t model) {
    const auto m = static_cast<std::size_t>(model);
    if (m >= position_.size()) position_.resize(m + 1, kAbsent);
    if (position_[m] == kAbsent) {
      place(heap_.size(), model);
    }
    settle(position_[m]);
  }

  void erase(std::int32_t model) {
    const std::size_t hole = position_[static_cast<std::size_t>(model)];
    const std::int32_t last = heap_.back();
    heap_.pop_back();
    position_[static_cast<std::size_t>(model)] = kAbsent;
    if (last == model) return;
    place(hole, last);
    settle(hole);
  }

 private:
  static constexpr std::size_t kAbsent = static_cast<std::size_t>(-1);

  void place(std::size_t i, std::int32_t model) {
    if (i == heap_.size()) {
      heap_.push_back(model);
    } else {
      heap_[i] = model;
    }
    position_[static_cast<std::size_t>(model)] = i;
  }

  void settle(std::size_t i) {
    const std::int32_t model = heap_[i];
    while (i > 0 && first_(model, heap_[(i - 1) / 2])) {
      place(i, heap_[(i - 1) / 2]);
      i = (i - 1) / 2;
    }
    for (std::size_t child = 2 * i + 1; child < heap_.size(); child = 2 * i + 1) {
      if (child + 1 < heap_.size() && first_(heap_[child + 1], heap_[child])) ++child;
      if (!first_(heap_[child], model)) break;
      place(i, heap_[child]);
      i = child;
    }
    place(i, model);
  }

  First first_;
  std::vector<std::int32_t> heap_;
  std::vector<std::size_t> position_;  // by model
};

}  // namespace paella::sched
