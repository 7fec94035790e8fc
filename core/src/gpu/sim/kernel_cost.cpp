#include "paella/gpu/sim/kernel_cost.hpp"

#include <algorithm>

#include "paella/error.hpp"

namespace paella::gpu::sim {
namespace {

// Of an SM's rate: as measured for the kernel, else by its warps.
double block_load(const plan::Kernel& kernel, const DeviceSpec& device) {
  if (kernel.load > 0) return kernel.load / device.lanes_scale;
  const double weight = kernel.shape.smem_bytes > 0 ? 1.0 : device.gpu.light_weight;
  const double warps = plan::occupied(kernel.shape, device.sm).warps;
  return warps * weight / (device.gpu.saturation_warps * device.lanes_scale);
}

}  // namespace

KernelCost kernel_cost(const plan::Kernel& kernel, const DeviceSpec& reference,
                       const DeviceSpec& device) {
  const std::int32_t per_sm = plan::blocks_per_sm(kernel.shape, reference.sm);
  const std::int32_t fit = plan::blocks_per_sm(kernel.shape, device.sm);
  if (per_sm < 1 || fit < 1) {
    throw Error("kernel " + kernel.name + " fits no SM of " +
                (fit < 1 ? device.label : reference.label) + ": a block needs " +
                std::to_string(kernel.shape.threads) + " threads, " +
                std::to_string(kernel.shape.regs_per_thread) + " registers each and " +
                std::to_string(kernel.shape.smem_bytes) + " bytes of shared memory");
  }
  // Alone, a kernel runs in waves: every SM full, and a last wave spread over all SMs. The
  // slowest SM of a wave sets its time, so the time alone is linear in the work of a block.
  const double load = block_load(kernel, reference);
  const auto slowed = [&](std::int64_t blocks) {
    return slowdown(static_cast<double>(blocks) * load);
  };
  const std::int64_t sms = reference.sm.count;
  const std::int64_t wave = per_sm * sms;
  const std::int64_t full = kernel.blocks / wave;
  const std::int64_t rest = kernel.blocks % wave;
  double waves = static_cast<double>(full) * slowed(per_sm);
  if (rest > 0) waves += slowed((rest + sms - 1) / sms);
  const auto alone_ns = static_cast<double>(kernel.duration_ns);
  const double ramp_ns = std::min(1e3 * reference.gpu.ramp_us, 0.9 * alone_ns);
  const auto inverse = [](float x) { return x > 0 ? 1 / x : 1e6F; };
  KernelCost cost;
  cost.blocks = kernel.blocks;
  cost.blocks_per_sm = fit;
  cost.block = plan::occupied(kernel.shape, device.sm);
  cost.inv_warps = inverse(cost.block.warps);
  cost.inv_regs = inverse(cost.block.regs);
  cost.inv_smem = inverse(cost.block.smem);
  cost.work_ns = (alone_ns - ramp_ns) / waves / device.clock_scale;
  cost.load = block_load(kernel, device);
  return cost;
}

}  // namespace paella::gpu::sim
