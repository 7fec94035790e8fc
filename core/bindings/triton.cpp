#include <algorithm>
#include <utility>

#include "bindings.hpp"
#include "paella/baselines/triton_client/load.hpp"
#include "results.hpp"
#include "specification.hpp"

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

py::object triton_load(std::string_view text, const py::list& models, int port, int connections,
                       bool in_band, bool spin, int cpu, std::uint64_t seed, double watchdog_s,
                       const std::vector<std::string>& expected) {
  const engine::RunSpec run = run_spec(text);
  engine::check(run);
  const std::vector<triton::ModelTensors> of = tensors(models);
  const triton::LoadOptions options{.port = port,
                                    .connections = connections,
                                    .in_band = in_band,
                                    .spin = spin,
                                    .cpu = cpu,
                                    .seed = seed,
                                    .watchdog_s = watchdog_s,
                                    .expected = expected};
  triton::LoadResult result;
  {
    const py::gil_scoped_release release;
    record::Jobs jobs = engine::jobs_of(run);
    const request::ClientSpec client = engine::client_spec(run, jobs.size());
    result = triton::load(client, std::move(jobs), of, options);
  }
  py::dict out = job_columns(result.jobs);
  py::dict counters;
  counters["elapsed_ns"] = result.elapsed_ns;
  counters["outputs_checked"] = result.outputs_checked;
  out["counters"] = make("Counters", counters);
  out["cpu_us"] = result.cpu_us;
  out["own_us"] = result.own_us;
  out["ended_ns"] = array(result.ended_ns);
  out["gpu_late_us"] = to_us(result.gpu_late_ns);
  out["late_us"] = array(result.late_us);
  return make("TritonResult", out);
}

}  // namespace

void bind_triton(py::module_& m) {
  m.def("triton_load", &triton_load, py::arg("specification"), py::arg("models"), py::kw_only(),
        py::arg("port"), py::arg("connections"), py::arg("in_band"), py::arg("spin"),
        py::arg("cpu"), py::arg("seed"), py::arg("watchdog_s"), py::arg("expected"),
        "Sends a run's requests to a Triton server (paella.triton.run).");
}

}  // namespace paella::bindings
