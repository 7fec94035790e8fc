#include "bindings.hpp"
#include "paella/error.hpp"
#include "paella/ipc/load.hpp"
#include "results.hpp"
#include "specification.hpp"
#include "waiting.hpp"

namespace paella::bindings {
namespace {

py::object load(std::string_view text, const std::string& server, const std::string& wake,
                std::uint32_t lead_us, int cpu, int receiver_cpu, double patience_s) {
  const engine::RunSpec run = run_spec(text);
  record::Jobs jobs = engine::jobs_of(run);
  ipc::LoadSpec spec;
  spec.server = server;
  spec.options.waiting = waiting(wake);
  spec.options.lead_us = lead_us;
  spec.cpu = cpu;
  spec.receiver_cpu = receiver_cpu;
  spec.patience_s = patience_s;
  for (const plan::Model& model : run.models) spec.models.push_back(model.name);
  spec.client = client_spec(run, jobs.size());
  ipc::LoadResult result;
  {
    const py::gil_scoped_release release;
    result = ipc::load(spec, jobs);
  }
  py::dict counters;
  counters["outputs_checked"] = result.outputs_checked;
  counters["without_output"] = result.without_output;
  counters["client_cpu_us"] = result.cpu_us;
  counters["client_gap_max_us"] = to_us(result.longest_turn_ns);
  py::dict out = job_columns(jobs);
  out["counters"] = make("Counters", counters);
  return make("EngineResult", out);
}

}  // namespace

void bind_load(py::module_& m) {
  m.def("load", &load, py::arg("specification"), py::kw_only(), py::arg("server"),
        py::arg("wake"), py::arg("lead_us"), py::arg("cpu"), py::arg("receiver_cpu"),
        py::arg("patience_s"),
        "Sends a run's requests to a server in another process (paella.serving.load).");
}

}  // namespace paella::bindings
