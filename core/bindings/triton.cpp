#include <algorithm>
#include <utility>

#include "bindings.hpp"
#include "paella/triton/load.hpp"
#include "run_spec.hpp"

namespace paella::bindings {
namespace {

// Models as (name, bytes of inputs, bytes of outputs), in the specification's order.
std::vector<triton::ModelTensors> tensors(const py::list& list) {
  using Row = std::tuple<std::string, std::vector<std::size_t>, std::vector<std::size_t>>;
  std::vector<triton::ModelTensors> models;
  for (const py::handle item : list) {
    auto [name, inputs, outputs] = item.cast<Row>();
    models.push_back({std::move(name), std::move(inputs), std::move(outputs)});
  }
  return models;
}

py::dict triton_load(const py::dict& spec, const py::list& models, const py::dict& options) {
  const engine::SimulationSpec run = simulation_spec(spec);
  const std::vector<triton::ModelTensors> of = tensors(models);
  triton::LoadOptions how;
  how.port = get<int>(options, "port");
  how.connections = get<int>(options, "connections");
  how.in_band = get<bool>(options, "in_band");
  how.spin = get<bool>(options, "spin");
  how.cpu = get<int>(options, "cpu");
  how.seed = get<std::uint64_t>(options, "seed");
  how.watchdog_s = get<double>(options, "watchdog_s");
  for (const py::handle bytes : get<py::list>(options, "expected")) {
    how.expected.push_back(bytes.cast<std::string>());
  }
  triton::LoadResult result;
  {
    const py::gil_scoped_release release;
    result = triton::load(run, of, how);
  }
  py::dict out = jobs_dict(result.jobs);
  out["elapsed_ns"] = result.elapsed_ns;
  out["cpu_us"] = result.cpu_us;
  out["own_us"] = result.own_us;
  out["outputs_checked"] = result.outputs_checked;
  out["ended_ns"] = array(result.ended_ns);
  out["gpu_late_us"] = static_cast<double>(result.gpu_late_ns) * 1e-3;
  out["late_us"] = array(result.late_us);
  return out;
}

}  // namespace

void bind_triton(py::module_& m) {
  m.def("triton_load", &triton_load, py::arg("spec"), py::arg("models"), py::arg("options"));
}

}  // namespace paella::bindings
