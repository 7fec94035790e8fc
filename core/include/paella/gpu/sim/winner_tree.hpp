#pragma once

#include <bit>
#include <cstddef>
#include <vector>

#include "paella/time.hpp"

namespace paella::gpu::sim {

// The earliest of a fixed number of times; each change costs one walk to the root.
class WinnerTree {
 public:
  explicit WinnerTree(std::size_t leaves)
      : leaves_(std::bit_ceil(leaves)), nodes_(2 * leaves_, Node{kNever, 0}) {
    for (std::size_t i = 0; i < leaves_; ++i) nodes_[leaves_ + i].leaf = static_cast<int>(i);
    for (std::size_t i = leaves_ - 1; i > 0; --i) nodes_[i] = nodes_[2 * i];
  }

  TimeNs top_time() const { return nodes_[1].time; }
  int top() const { return nodes_[1].leaf; }
  TimeNs time(std::size_t leaf) const { return nodes_[leaves_ + leaf].time; }

  void set(std::size_t leaf, TimeNs time) {
    std::size_t i = leaves_ + leaf;
    nodes_[i].time = time;
    while (i > 1) {
      const Node& a = nodes_[i & ~std::size_t{1}];
      const Node& b = nodes_[i | 1];
      i /= 2;
      nodes_[i] = b.time < a.time ? b : a;
    }
  }

 private:
  struct Node {
    TimeNs time;
    int leaf;
  };
  std::size_t leaves_;
  std::vector<Node> nodes_;
};

}  // namespace paella::gpu::sim
