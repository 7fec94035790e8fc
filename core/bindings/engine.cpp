#include "bindings.hpp"
#include "paella/apps/simulated_run.hpp"
#include "paella/plan/occupancy.hpp"
#include "results.hpp"
#include "specification.hpp"
#include "version.hpp"

namespace paella::bindings {
namespace {

py::object simulate(std::string_view text, const py::object& policy) {
  const engine::RunSpec spec = run_spec(text);
  const engine::MakePolicy make_policy = policy_of(spec.system, policy);
  apps::SimulatedRun run;
  if (policy.is_none()) {
    const py::gil_scoped_release release;
    run = apps::simulate(spec, make_policy);
  } else {
    run = apps::simulate(spec, make_policy);
  }
  py::dict counters = server_counters(run.counters);
  counters["elapsed_ns"] = run.elapsed_ns;
  counters["block_groups"] = run.block_groups;
  py::dict result = job_columns(run.jobs);
  result["counters"] = make("Counters", counters);
  if (spec.timeline) result["timeline"] = timeline_columns(run.timeline);
  return make("EngineResult", result);
}

py::tuple jobs(std::string_view text) {
  const record::Jobs rows = engine::jobs_of(run_spec(text));
  return py::make_tuple(array(rows.model), array(rows.due_ns));
}

py::list admission_list() {
  py::list list;
  for (const sched::AdmissionInfo& info : sched::admissions()) {
    py::dict d;
    d["name"] = info.name;
    d["summary"] = info.summary;
    d["options"] = info.options;
    list.append(d);
  }
  return list;
}

}  // namespace

void bind_engine(py::module_& m) {
  m.attr("engine_version") = engine_version();
  m.attr("compiled_by") = compiled_by();
  m.attr("git_revision") = git_revision();
  m.def("simulate", &simulate, py::arg("specification"), py::arg("policy") = py::none(),
        "Runs a specification on the simulated GPU. `policy` takes the place of the system's.");
  m.def("jobs", &jobs, py::arg("specification"),
        "Model and due time in ns of each job of a run.");
  m.def("admissions", &admission_list, "Known admissions with their options.");
  m.def(
      "blocks_per_sm",
      [](int threads, int regs, int smem_bytes, std::string_view sm) {
        return plan::blocks_per_sm({threads, regs, smem_bytes}, sm_limits(sm));
      },
      py::arg("threads"), py::arg("regs"), py::arg("smem_bytes"), py::arg("sm"),
      "Blocks of this shape that fit an empty SM, whose limits are JSON text.");
}

}  // namespace paella::bindings
