#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paella/time.hpp"

namespace paella::plan {

// What one block of a kernel asks of the SM it runs on.
struct BlockShape {
  std::int32_t threads = 0;
  std::int32_t regs_per_thread = 0;
  std::int32_t smem_bytes = 0;  // static + dynamic
};

struct Kernel {
  std::string name;
  std::int64_t blocks = 0;  // of the whole grid
  BlockShape shape;
  TimeNs duration_ns = 0;  // alone on the profile's device, in place in its model
  double load = 0;  // of one block there, as a share of an SM's rate; 0: not measured
};

// A launch plan: kernels in order, and the bytes copied in before and out after them.
struct Model {
  std::string name;
  std::vector<Kernel> kernels;
  std::int64_t input_bytes = 0;
  std::int64_t output_bytes = 0;
  std::int64_t weights_bytes = 0;  // shared by all its jobs
  std::int64_t arena_bytes = 0;    // intermediate results of one job
};

}  // namespace paella::plan
