#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paella/spec/fields.hpp"
#include "paella/time.hpp"

namespace paella::plan {

// What one block of a kernel asks of the SM it runs on.
struct BlockShape {
  std::int32_t threads = 0;
  std::int32_t regs_per_thread = 0;
  std::int32_t smem_bytes = 0;  // static + dynamic
};

template <spec::Of<BlockShape> Self>
void fields(Self& self, auto&& field) {
  field("threads", self.threads);
  field("regs_per_thread", self.regs_per_thread);
  field("smem_bytes", self.smem_bytes);
}

struct Kernel {
  std::string name;
  std::int64_t blocks = 0;
  BlockShape shape;
  TimeNs duration_ns = 0;
  double load = 0;
};

template <spec::Of<Kernel> Self>
void fields(Self& self, auto&& field) {
  field("name", self.name, spec::Role::kDescription);
  field("blocks", self.blocks);
  field("shape", self.shape);
  field("duration_ns", self.duration_ns);
  field("load", self.load);
}

// A model as its scheduling sees it: kernels in order, and the bytes copied in before and out after
// them.
struct Model {
  std::string name;
  std::vector<Kernel> kernels;
  std::int64_t input_bytes = 0;
  std::int64_t output_bytes = 0;
  std::int64_t weights_bytes = 0;
  std::int64_t arena_bytes = 0;
};

template <spec::Of<Model> Self>
void fields(Self& self, auto&& field) {
  field("name", self.name);
  field("kernels", self.kernels);
  field("input_bytes", self.input_bytes);
  field("output_bytes", self.output_bytes);
  field("weights_bytes", self.weights_bytes);
  field("arena_bytes", self.arena_bytes);
}

}  // namespace paella::plan
