#include "launch_plan.hpp"

#include <fstream>
#include <iterator>

#include "convert.hpp"
#include "paella/error.hpp"

namespace paella::bindings {
namespace {

namespace cuda = gpu::cuda;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error("cannot read " + path);
  return bytes;
}

}  // namespace

cuda::LaunchPlan launch_plan(const py::dict& d) {
  cuda::LaunchPlan plan;
  plan.name = get<std::string>(d, "name");
  plan.plain = get<std::string>(d, "plain");
  plan.instrumented = get<std::string>(d, "instrumented");
  const py::object weights = d["weights"];
  plan.weights = py::isinstance<py::str>(weights) ? read_file(weights.cast<std::string>())
                                                  : weights.cast<std::string>();
  plan.arena_bytes = get<std::size_t>(d, "arena_bytes");
  plan.inputs = get<std::vector<std::size_t>>(d, "inputs");
  using At = std::pair<std::string, std::size_t>;
  for (const auto& [space, offset, bytes] :
       get<std::vector<std::tuple<std::string, std::size_t, std::size_t>>>(d, "outputs")) {
    plan.outputs.push_back({cuda::place_in(space, offset), bytes});
  }
  for (const py::handle item : get<py::list>(d, "kernels")) {
    const auto k = item.cast<py::dict>();
    cuda::Launch launch{get<std::string>(k, "symbol"), get<std::array<unsigned, 3>>(k, "grid"),
                        get<std::array<unsigned, 3>>(k, "block"),
                        get<unsigned>(k, "dynamic_smem"), {}};
    for (const auto& [space, offset] : get<std::vector<At>>(k, "args")) {
      launch.args.push_back(cuda::place_in(space, offset));
    }
    plan.launches.push_back(std::move(launch));
  }
  if (d.contains("chained")) {
    plan.chained = get<std::string>(d, "chained");
    const auto in_chain = get<std::vector<bool>>(d, "in_chain");
    for (std::size_t k = 0; k < plan.launches.size(); ++k) {
      plan.launches[k].in_chain = in_chain.at(k);
    }
  }
  return plan;
}

}  // namespace paella::bindings
