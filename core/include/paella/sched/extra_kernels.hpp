#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "paella/sched/admission.hpp"

namespace paella::sched {

// The bookkeeping that both resource admissions share: what each unit on the GPU holds, and the
// few units that may go there without fitting, each until all its blocks have started (paper
// section 5: they keep the hardware's queue filled).
class ExtraKernels : public Admission {
 public:
  explicit ExtraKernels(std::int64_t allowed) : allowed_(allowed) {}

  bool admits(const Demand& demand) const final {
    return demand.blocks == 0 || extra_ < allowed_ || fits(demand);
  }

  void issued(std::int32_t unit, const Demand& demand) final {
    if (static_cast<std::size_t>(unit) >= held_.size()) held_.resize(unit + 1);
    Held& held = held_[unit];
    held.demand = demand;
    held.to_start = held.to_end = demand.blocks;
    held.extra = demand.blocks > 0 && !fits(demand);
    if (held.extra) {
      ++extra_;
      ++extra_total_;
    }
    if (demand.blocks > 0) take(unit, demand);
  }

  void placed(std::int32_t unit, std::int64_t blocks) final {
    Held& held = held_[unit];
    held.to_start -= blocks;
    if (held.extra && held.to_start <= 0) {
      held.extra = false;
      --extra_;
    }
  }

  void finished(std::int32_t unit, std::int64_t blocks) final {
    Held& held = held_[unit];
    blocks = std::min(blocks, held.to_end);  // a unit of several kernels holds its largest
    held.to_end -= blocks;
    if (blocks > 0) give_back(unit, held.demand, blocks);
  }

  void done(std::int32_t unit) final {
    placed(unit, held_[unit].to_start);
    finished(unit, held_[unit].to_end);
  }

  std::int64_t extra() const final { return extra_total_; }

 protected:
  virtual bool fits(const Demand& demand) const = 0;
  virtual void take(std::int32_t unit, const Demand& demand) = 0;
  virtual void give_back(std::int32_t unit, const Demand& demand, std::int64_t blocks) = 0;

 private:
  struct Held {
    Demand demand;
    std::int64_t to_start = 0;
    std::int64_t to_end = 0;
    bool extra = false;
  };
  std::int64_t allowed_;
  std::int64_t extra_ = 0;
  std::int64_t extra_total_ = 0;
  std::vector<Held> held_;
};

}  // namespace paella::sched
