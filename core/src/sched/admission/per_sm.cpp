#include <algorithm>
#include <limits>

#include "paella/sched/extra_kernels.hpp"

namespace paella::sched {
namespace {

// Mirrors each SM with CUDA's allocation units and puts a kernel's blocks where the hardware
// would: one at a time on the SM with most room. The host is not told which SM a block ends on;
// a kernel's blocks are taken to end in the order in which they were put.
class PerSmAdmission : public ExtraKernels {
 public:
  PerSmAdmission(std::int64_t extra_kernels, const plan::SmLimits& sm)
      : ExtraKernels(extra_kernels), sm_(sm), free_(sm.count, plan::capacity(sm)) {}

 protected:
  bool fits(const Demand& demand) const override {
    const plan::SmUnits block = plan::occupied(demand.shape, sm_);
    std::int64_t room = 0;
    for (const plan::SmUnits& free : free_) {
      room += plan::blocks_that_fit(block, free);
      if (room >= demand.blocks) return true;
    }
    return false;
  }

  void take(std::int32_t unit, const Demand& demand) override {
    const plan::SmUnits block = plan::occupied(demand.shape, sm_);
    if (static_cast<std::size_t>(unit) >= blocks_on_.size()) blocks_on_.resize(unit + 1);
    auto& on = blocks_on_[unit];
    on.assign(free_.size(), 0);
    room_.resize(free_.size());
    for (std::int64_t left = demand.blocks; left > 0;) {
      // A round gives one block to each of the roomiest SMs. What fits nowhere waits in the
      // hardware's queue and is spread evenly.
      std::int32_t most = std::numeric_limits<std::int32_t>::min();
      for (std::size_t s = 0; s < free_.size(); ++s) {
        room_[s] = plan::blocks_that_fit(block, free_[s]);
        most = std::max(most, room_[s]);
      }
      for (std::size_t s = 0; s < free_.size() && left > 0; ++s) {
        if (room_[s] < most) continue;
        change(s, block, -1);
        ++on[s];
        --left;
      }
    }
  }

  void give_back(std::int32_t unit, const Demand& demand, std::int64_t blocks) override {
    const plan::SmUnits block = plan::occupied(demand.shape, sm_);
    auto& on = blocks_on_[unit];
    for (std::size_t s = 0; s < on.size() && blocks > 0; ++s) {
      const std::int64_t n = std::min(blocks, on[s]);
      change(s, block, static_cast<float>(n));
      on[s] -= n;
      blocks -= n;
    }
  }

 private:
  void change(std::size_t s, const plan::SmUnits& block, float blocks) {
    plan::SmUnits& free = free_[s];
    free.warps += blocks * block.warps;
    free.regs += blocks * block.regs;
    free.smem += blocks * block.smem;
    free.blocks += blocks * block.blocks;
  }

  plan::SmLimits sm_;
  std::vector<plan::SmUnits> free_;  // may go below zero
  std::vector<std::vector<std::int64_t>> blocks_on_;
  std::vector<std::int32_t> room_;
};

}  // namespace

std::unique_ptr<Admission> make_per_sm_admission(std::int64_t extra_kernels,
                                                 const plan::SmLimits& sm) {
  return std::make_unique<PerSmAdmission>(extra_kernels, sm);
}

}  // namespace paella::sched
