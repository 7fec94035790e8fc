#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

// What of a launch plan (paella.plan.Plan) goes to the GPU.
namespace paella::gpu::cuda {

enum class Space { kWeights, kArena, kInput, kOutput };

// A place in one of a job's memories; `index` tells inputs and outputs apart.
struct Place {
  Space space = Space::kArena;
  std::size_t index = 0;
  std::size_t offset = 0;
};

// In the space that a plan calls weights, arena, inputN or outputN; Error for any other name.
Place place_in(const std::string& space, std::size_t offset);

using Grid = std::array<unsigned, 3>;

struct Launch {
  std::string symbol;
  Grid grid{1, 1, 1};
  Grid block{1, 1, 1};
  unsigned dynamic_smem = 0;
  std::vector<Place> args;
  bool in_chain = false;  // a chain has the chained kernel here; else the plain one
};

struct Output {
  Place at;
  std::size_t bytes = 0;
};

struct LaunchPlan {
  std::string name;
  std::string plain, instrumented;  // cubins
  std::string chained;              // or empty, where no chain is launched
  std::vector<Launch> launches;
  std::string weights;
  std::size_t arena_bytes = 0;
  std::vector<std::size_t> inputs;  // bytes
  std::vector<Output> outputs;
};

}  // namespace paella::gpu::cuda
