#pragma once

#include <cstdint>
#include <vector>

#include "paella/time.hpp"

namespace paella::record {

struct KernelSpan {
  std::int32_t job = 0;  // -1 in the warm-up
  std::int32_t model = 0;
  std::int32_t kernel = 0;  // index in the model
  std::int32_t stream = 0;
  TimeNs eligible_ns = 0;  // head of its stream and of its hardware queue
  TimeNs started_ns = -1;
  TimeNs finished_ns = -1;
};

// Blocks of one kernel that started and finished together on one SM.
struct BlockSpan {
  std::int32_t kernel = 0;  // index into Timeline::kernels
  std::int32_t sm = 0;
  std::int32_t blocks = 0;
  TimeNs started_ns = 0;
  TimeNs finished_ns = 0;
};

struct Timeline {
  std::vector<KernelSpan> kernels;
  std::vector<BlockSpan> blocks;
};

}  // namespace paella::record
