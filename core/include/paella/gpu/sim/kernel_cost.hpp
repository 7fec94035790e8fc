#pragma once

#include <algorithm>
#include <cstdint>

#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"
#include "paella/plan/occupancy.hpp"

namespace paella::gpu::sim {

// A kernel as the simulated GPU sees it.
struct KernelCost {
  std::int64_t blocks = 0;
  plan::SmUnits block;                              // what one block occupies
  float inv_warps = 0, inv_regs = 0, inv_smem = 0;  // reciprocals, large where nothing is used
  std::int32_t blocks_per_sm = 0;
  double load = 0;     // of one block, as a fraction of an SM's rate
  double work_ns = 0;  // of one block at full rate
};

// By how much an SM under this load slows each of its blocks (rule 10).
inline double slowdown(double load) { return std::max(1.0, load); }

// What `kernel`, measured alone on `reference`, costs on `device`. Throws Error if it fits no SM.
KernelCost kernel_cost(const plan::Kernel& kernel, const DeviceSpec& reference,
                       const DeviceSpec& device);

}  // namespace paella::gpu::sim
