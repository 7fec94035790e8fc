#include "bindings.hpp"
#include "convert.hpp"
#include "paella/engine/simulate.hpp"
#include "run_spec.hpp"
#include "version.hpp"

namespace paella::bindings {
namespace {

py::dict simulate(const py::dict& d) {
  const engine::SimulationSpec spec = simulation_spec(d);
  engine::SimulationResult result;
  if (has_python_policy(d)) {
    result = engine::simulate(spec);
  } else {
    const py::gil_scoped_release release;
    result = engine::simulate(spec);
  }
  py::dict out = jobs_dict(result.jobs);
  py::dict counters;
  counters["dispatches"] = result.dispatches;
  counters["extra_kernels"] = result.extra_kernels;
  counters["host_cpu_us"] = result.host_cpu_us;
  counters["elapsed_ns"] = result.elapsed_ns;
  counters["block_groups"] = result.block_groups;
  out["counters"] = counters;
  out["timeline"] = spec.timeline ? py::object(timeline_dict(result.timeline)) : py::none();
  return out;
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
  m.attr("git_revision") = git_revision();
  m.def("simulate", &simulate, py::arg("spec"),
        "Run a complete specification (see paella.simulation) on the simulated GPU.");
  m.def("admissions", &admission_list, "Known admissions with their options.");
  m.def(
      "blocks_per_sm",
      [](int threads, int regs, int smem_bytes, const py::dict& sm) {
        return plan::blocks_per_sm({threads, regs, smem_bytes}, sm_limits(sm));
      },
      py::arg("threads"), py::arg("regs"), py::arg("smem_bytes"), py::arg("sm"),
      "Blocks of this shape that fit an empty SM.");
}

}  // namespace paella::bindings
