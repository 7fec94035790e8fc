#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "paella/time.hpp"

namespace paella::gpu::sim {

// The earliest of a fixed number of times. A node is one integer, a time with its leaf in the low
// bits, so that a change is one walk to the root without branches; equal times go by leaf.
class WinnerTree {
 public:
  explicit WinnerTree(std::size_t leaves)
      : leaves_(std::bit_ceil(leaves)),
        leaf_bits_(std::countr_zero(leaves_)),
        latest_(kNever >> leaf_bits_),
        nodes_(2 * leaves_) {
    for (std::size_t i = 0; i < leaves_; ++i) nodes_[leaves_ + i] = key(i, latest_);
    for (std::size_t i = leaves_ - 1; i > 0; --i) nodes_[i] = nodes_[2 * i];
  }

  TimeNs top_time() const { return time_of(nodes_[1]); }
  std::int32_t top() const { return leaf_of(nodes_[1]); }
  TimeNs time(std::size_t leaf) const { return time_of(nodes_[leaves_ + leaf]); }

  void set(std::size_t leaf, TimeNs time) {
    std::size_t i = leaves_ + leaf;
    std::int64_t least = key(leaf, std::min(time, latest_));
    nodes_[i] = least;
    while (i > 1) {
      least = std::min(least, nodes_[i ^ 1]);
      nodes_[i /= 2] = least;
    }
  }

  // Calls visit(leaf) for each leaf with a time of at most `until`, the top one first.
  template <class Visit>
  void each_until(TimeNs until, Visit&& visit) const {
    const std::int64_t limit = key(0, until + 1);
    if (nodes_[1] >= limit) return;
    const std::int32_t first = top();
    visit(first);
    for (std::size_t i = leaves_ + first; i > 1; i /= 2) {
      if (nodes_[i ^ 1] < limit) below(i ^ 1, limit, visit);
    }
  }

 private:
  std::int64_t key(std::size_t leaf, TimeNs time) const {
    return time << leaf_bits_ | static_cast<std::int64_t>(leaf);
  }
  TimeNs time_of(std::int64_t key) const {
    const TimeNs time = key >> leaf_bits_;
    return time == latest_ ? kNever : time;
  }
  std::int32_t leaf_of(std::int64_t key) const {
    return static_cast<std::int32_t>(key & static_cast<std::int64_t>(leaves_ - 1));
  }

  template <class Visit>
  void below(std::size_t node, std::int64_t limit, Visit& visit) const {
    if (node >= leaves_) {
      visit(leaf_of(nodes_[node]));
      return;
    }
    for (const std::size_t child : {2 * node, 2 * node + 1}) {
      if (nodes_[child] < limit) below(child, limit, visit);
    }
  }

  std::size_t leaves_;
  int leaf_bits_;
  TimeNs latest_;  // stands for kNever
  std::vector<std::int64_t> nodes_;
};

}  // namespace paella::gpu::sim
