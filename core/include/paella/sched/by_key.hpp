#pragma once

#include <cstddef>
#include <cstdint>

#include "paella/sched/policy.hpp"
#include "paella/sched/queues.hpp"

namespace paella::sched {

// A policy whose order is one number per entry, fixed when the entry is pushed.
template <class Key>
class ByKey final : public Policy {
 public:
  explicit ByKey(Key key) : key_(key) {}

  void push(const Ready& entry) override { heap_.push({key_(entry), pushes_++, entry.job}); }
  std::int32_t pop() override { return heap_.pop(); }
  std::int32_t peek() const override { return heap_.top().job; }
  std::size_t size() const override { return heap_.size(); }

 private:
  Key key_;
  JobHeap heap_;
  std::uint64_t pushes_ = 0;
};

}  // namespace paella::sched
