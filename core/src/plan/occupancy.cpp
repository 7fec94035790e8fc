#include "paella/plan/occupancy.hpp"

#include <algorithm>

namespace paella::plan {
namespace {

constexpr int kWarp = 32;
constexpr int kRegUnit = 256;
constexpr int kSmemUnit = 128;

constexpr float units(int amount, int unit) {
  return static_cast<float>((amount + unit - 1) / unit);
}

}  // namespace

SmUnits capacity(const SmLimits& sm) {
  return {static_cast<float>(sm.threads / kWarp), static_cast<float>(sm.regs / kRegUnit),
          static_cast<float>(sm.smem_bytes / kSmemUnit), static_cast<float>(sm.blocks)};
}

SmUnits occupied(const BlockShape& block, const SmLimits& sm) {
  const float warps = units(block.threads, kWarp);
  return {warps, warps * units(block.regs_per_thread * kWarp, kRegUnit),
          units(block.smem_bytes + sm.reserved_smem_bytes, kSmemUnit), 1};
}

std::int32_t blocks_that_fit(const SmUnits& block, const SmUnits& free) {
  float fit = free.blocks;
  const auto limit = [&](float have, float need) {
    if (need > 0) fit = std::min(fit, have / need);
  };
  limit(free.warps, block.warps);
  limit(free.regs, block.regs);
  limit(free.smem, block.smem);
  return static_cast<std::int32_t>(fit);
}

std::int32_t blocks_per_sm(const BlockShape& block, const SmLimits& sm) {
  return blocks_that_fit(occupied(block, sm), capacity(sm));
}

}  // namespace paella::plan
