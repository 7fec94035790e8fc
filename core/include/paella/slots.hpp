#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace paella {

// Things under small numbers, each free again when its thing has ended. Nothing is allocated once
// there have been as many as there will be at a time.
template <class T>
class Slots {
 public:
  // A free number; what stands under it is left over from before.
  std::int32_t take() {
    if (free_.empty()) {
      items_.emplace_back();
      return static_cast<std::int32_t>(items_.size()) - 1;
    }
    const std::int32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give_back(std::int32_t slot) { free_.push_back(slot); }

  T& operator[](std::int32_t slot) { return items_[static_cast<std::size_t>(slot)]; }
  const T& operator[](std::int32_t slot) const { return items_[static_cast<std::size_t>(slot)]; }

 private:
  std::vector<T> items_;
  std::vector<std::int32_t> free_;
};

}  // namespace paella
