#pragma once

#include <cstdint>

#include "paella/plan/model.hpp"
#include "paella/spec/fields.hpp"

namespace paella::plan {

// Limits of one streaming multiprocessor, and how many there are.
struct SmLimits {
  std::int32_t count = 0;
  std::int32_t threads = 0;
  std::int32_t blocks = 0;
  std::int32_t regs = 0;
  std::int32_t smem_bytes = 0;
  std::int32_t reserved_smem_bytes = 0;  // per block
};

template <spec::Of<SmLimits> Self>
void fields(Self& self, auto&& field) {
  field("count", self.count);
  field("threads", self.threads);
  field("blocks", self.blocks);
  field("regs", self.regs);
  field("smem_bytes", self.smem_bytes);
  field("reserved_smem_bytes", self.reserved_smem_bytes);
}

// Resources of an SM in the units in which they are allocated (CUDA occupancy rules): warps;
// registers by 256, for each warp; shared memory by 128 bytes; block slots. Exact in a float.
struct SmUnits {
  float warps = 0;
  float regs = 0;
  float smem = 0;
  float blocks = 0;
};

SmUnits capacity(const SmLimits& sm);
SmUnits occupied(const BlockShape& block, const SmLimits& sm);

// Blocks of this shape that fit `free`; 0 if none does.
std::int32_t blocks_that_fit(const SmUnits& block, const SmUnits& free);
std::int32_t blocks_per_sm(const BlockShape& block, const SmLimits& sm);

}  // namespace paella::plan
