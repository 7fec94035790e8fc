#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "paella/time.hpp"

namespace paella::ipc {

// How many of something took how long, in classes that are each at most a quarter wider than long.
// Written by one thread; another may take a snapshot at any time.
class Latencies {
 public:
  static constexpr int kClasses = 4 * 40;  // up to 18 minutes; all that is longer is in the last
  struct Snapshot {
    std::array<std::int64_t, kClasses> counts{};
    std::int64_t sum_ns = 0;
  };

  void add(TimeNs ns) {
    bump(counts_[class_of(ns)], 1);
    bump(sum_ns_, ns);
  }
  Snapshot snapshot() const {
    Snapshot s;
    for (int i = 0; i < kClasses; ++i) s.counts[i] = counts_[i].load(std::memory_order_relaxed);
    s.sum_ns = sum_ns_.load(std::memory_order_relaxed);
    return s;
  }

  static int class_of(TimeNs ns) {
    if (ns < 4) return ns < 0 ? 0 : static_cast<int>(ns);
    const int log = std::bit_width(static_cast<std::uint64_t>(ns)) - 1;
    const int quarter = static_cast<int>(ns >> (log - 2)) & 3;
    const int number = 4 * (log - 1) + quarter;
    return number < kClasses ? number : kClasses - 1;
  }
  // What is in a class is below this.
  static TimeNs bound_ns(int number) {
    if (number < 4) return number + 1;
    return TimeNs{4 + number % 4 + 1} << (number / 4 - 1);
  }

 private:
  static void bump(std::atomic<std::int64_t>& n, std::int64_t by) {
    n.store(n.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  std::array<std::atomic<std::int64_t>, kClasses> counts_{};
  std::atomic<std::int64_t> sum_ns_{0};
};

}  // namespace paella::ipc
