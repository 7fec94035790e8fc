#include "paella/plan/launch_plan.hpp"

#include <charconv>

#include <fstream>
#include <iterator>

#include "paella/error.hpp"

namespace paella::plan {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error("cannot read " + path);
  return bytes;
}

}  // namespace

Place place_in(const std::string& space, std::size_t offset) {
  if (space == "weights") return {Space::kWeights, 0, offset};
  if (space == "arena") return {Space::kArena, 0, offset};
  const std::size_t digits = space.find_first_of("0123456789");
  const std::string kind = space.substr(0, digits);
  if (digits == std::string::npos || (kind != "input" && kind != "output")) {
    throw Error("a plan has no memory " + space);
  }
  std::size_t index = 0;
  const char* const end = space.data() + space.size();
  const auto [rest, error] = std::from_chars(space.data() + digits, end, index);
  if (error != std::errc{} || rest != end) throw Error("a plan has no memory " + space);
  return {kind == "input" ? Space::kInput : Space::kOutput, index, offset};
}

LaunchPlan read_plan(const PlanFiles& files) {
  LaunchPlan plan;
  plan.name = files.name;
  plan.plain = read_file(files.plain);
  plan.instrumented = read_file(files.instrumented);
  if (!files.weights.empty()) plan.weights = read_file(files.weights);
  if (!files.chained.empty()) plan.chained = read_file(files.chained);
  plan.arena_bytes = files.plan.arena_bytes;
  for (const Tensor& input : files.plan.inputs) plan.inputs.push_back(input.at.bytes);
  for (const Tensor& output : files.plan.outputs) {
    plan.outputs.push_back({place_in(output.at.space, output.at.offset), output.at.bytes});
  }
  for (const PlannedLaunch& kernel : files.plan.kernels) {
    Launch launch;
    launch.symbol = kernel.symbol;
    launch.grid = kernel.grid;
    launch.block = kernel.block;
    launch.dynamic_smem = kernel.dynamic_smem;
    for (const Ref& ref : kernel.args) launch.args.push_back(place_in(ref.space, ref.offset));
    plan.launches.push_back(std::move(launch));
  }
  for (const std::int32_t k : files.chain) {
    if (k < 0 || static_cast<std::size_t>(k) >= plan.launches.size()) {
      throw Error(plan.name + " has no kernel " + std::to_string(k));
    }
    plan.launches[static_cast<std::size_t>(k)].in_chain = true;
  }
  return plan;
}

}  // namespace paella::plan
