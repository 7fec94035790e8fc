#include "bindings.hpp"
#include "paella/ipc/load.hpp"
#include "run_spec.hpp"

namespace paella::bindings {
namespace {

py::dict load(const py::dict& d) {
  const engine::SimulationSpec run = simulation_spec(get<py::dict>(d, "run"));
  ipc::LoadSpec spec;
  spec.server = get<std::string>(d, "server");
  spec.options.waiting = choice<Waiting>(
      d, "wake",
      {{"poll", Waiting::kPoll}, {"block", Waiting::kBlock}, {"hybrid", Waiting::kHybrid}});
  spec.options.lead_us = get<std::uint32_t>(d, "lead_us");
  spec.cpu = get<int>(d, "cpu");
  spec.receiver_cpu = get<int>(d, "receiver_cpu");
  spec.patience_s = get<double>(d, "patience_s");
  for (const plan::Model& model : run.models) spec.models.push_back(model.name);
  spec.client = client_spec(run);
  record::Jobs jobs;
  for (std::size_t i = 0; i < run.job_models.size(); ++i) {
    jobs.add(run.job_models[i], run.closed_loop > 0 ? 0 : run.job_due_ns[i]);
  }
  ipc::LoadResult result;
  {
    const py::gil_scoped_release release;
    result = ipc::load(spec, jobs);
  }
  py::dict out = jobs_dict(jobs);
  py::dict counters;
  counters["outputs_checked"] = result.outputs_checked;
  counters["without_output"] = result.without_output;
  counters["client_cpu_us"] = result.cpu_us;
  counters["client_gap_max_us"] = static_cast<double>(result.longest_turn_ns) * 1e-3;
  out["counters"] = counters;
  return out;
}

}  // namespace

void bind_load(py::module_& m) {
  m.def("load", &load, py::arg("spec"),
        "Sends a run's requests to a server in another process (paella.serving.load).");
}

}  // namespace paella::bindings
