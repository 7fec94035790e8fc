#include "paella/gpu/cuda/launch_plan.hpp"

#include "paella/error.hpp"

namespace paella::gpu::cuda {

Place place_in(const std::string& space, std::size_t offset) {
  if (space == "weights") return {Space::kWeights, 0, offset};
  if (space == "arena") return {Space::kArena, 0, offset};
  const std::size_t digits = space.find_first_of("0123456789");
  const std::string kind = space.substr(0, digits);
  if (digits == std::string::npos || (kind != "input" && kind != "output")) {
    throw Error("a plan has no memory " + space);
  }
  return {kind == "input" ? Space::kInput : Space::kOutput, std::stoul(space.substr(digits)),
          offset};
}

}  // namespace paella::gpu::cuda
