#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "paella/spec/fields.hpp"

// What of a launch plan (paella.plan.Plan) goes to the GPU.
namespace paella::plan {

// ---- As the plan's file says it.

struct Ref {  // bytes of one of a job's memories
  std::string space;
  std::size_t offset = 0;
  std::size_t bytes = 0;
};

template <spec::Of<Ref> Self>
void fields(Self& self, auto&& field) {
  field("space", self.space);
  field("offset", self.offset);
  field("bytes", self.bytes);
}

struct Tensor {
  Ref at;
};

template <spec::Of<Tensor> Self>
void fields(Self& self, auto&& field) {
  field("at", self.at);
}

using Grid = std::array<unsigned, 3>;  // blocks, or threads of a block, in x, y and z

struct PlannedLaunch {
  std::string symbol;
  Grid grid{1, 1, 1};
  Grid block{1, 1, 1};
  std::vector<Ref> args;
  unsigned dynamic_smem = 0;
};

template <spec::Of<PlannedLaunch> Self>
void fields(Self& self, auto&& field) {
  field("symbol", self.symbol);
  field("grid", self.grid);
  field("block", self.block);
  field("args", self.args);
  field("dynamic_smem", self.dynamic_smem);
}

struct PlanText {
  std::vector<Tensor> inputs, outputs;
  std::size_t arena_bytes = 0;
  std::vector<PlannedLaunch> kernels;
};

template <spec::Of<PlanText> Self>
void fields(Self& self, auto&& field) {
  field("inputs", self.inputs);
  field("outputs", self.outputs);
  field("arena_bytes", self.arena_bytes);
  field("kernels", self.kernels);
}

// A plan and where its files are: paella.specification.PlanFiles.
struct PlanFiles {
  std::string name;  // of the model
  PlanText plan;
  std::string plain, instrumented;  // cubins
  std::string chained;              // likewise; empty: not to be loaded
  std::vector<std::int32_t> chain;  // indices of the kernels whose chained form a chain uses
  std::string weights;              // empty: it has none
};

template <spec::Of<PlanFiles> Self>
void fields(Self& self, auto&& field) {
  field("name", self.name);
  field("plan", self.plan);
  field("plain", self.plain);
  field("instrumented", self.instrumented);
  field("chained", self.chained);
  field("chain", self.chain);
  field("weights", self.weights);
}

// ---- As it is loaded.

enum class Space { kWeights, kArena, kInput, kOutput };

// A place in one of a job's memories; `index` tells inputs and outputs apart.
struct Place {
  Space space = Space::kArena;
  std::size_t index = 0;
  std::size_t offset = 0;
};

// In the space that a plan calls weights, arena, inputN or outputN; Error for any other name.
Place place_in(const std::string& space, std::size_t offset);

struct Launch {
  std::string symbol;
  Grid grid{1, 1, 1};
  Grid block{1, 1, 1};
  unsigned dynamic_smem = 0;
  std::vector<Place> args;
  bool in_chain = false;  // its chained form is used in chains, the plain one if not
};

struct Output {
  Place at;
  std::size_t bytes = 0;
};

struct LaunchPlan {
  std::string name;
  std::string plain, instrumented;  // cubins
  std::string chained;              // the same; empty where only serving is wanted
  std::vector<Launch> launches;
  std::string weights;
  std::size_t arena_bytes = 0;
  std::vector<std::size_t> inputs;  // bytes
  std::vector<Output> outputs;
};

// Reads the files. Throws Error for one that cannot be read, or a memory that no plan has.
LaunchPlan read_plan(const PlanFiles& files);

}  // namespace paella::plan
