#include "bindings.hpp"
#include "convert.hpp"
#include "paella/engine/simulate.hpp"
#include "python_policy.hpp"

namespace paella::bindings {
namespace {

engine::SystemSpec system_spec(const py::dict& d) {
  using Kind = engine::UnitOfDispatch::Kind;
  engine::SystemSpec system;
  system.dispatcher = get<bool>(d, "dispatcher");
  system.process_per_model = get<bool>(d, "process_per_model");
  system.thread_per_instance = get<bool>(d, "thread_per_instance");
  system.streams = get<int>(d, "streams");
  system.hardware_queues = get<int>(d, "hardware_queues");
  system.stream_owner = choice<engine::StreamOwner>(
      d, "stream_owner", {{"job", engine::StreamOwner::kJob}, {"stage", engine::StreamOwner::kUnit}});
  system.graphs = get<bool>(d, "graphs");
  system.notify = choice<gpu::Notify>(d, "notify", {{"blocks", gpu::Notify::kBlocks},
                                                    {"unit", gpu::Notify::kUnit},
                                                    {"stream", gpu::Notify::kStream}});
  system.notify_blocks = get<int>(d, "notify_blocks");
  system.notify_call = get<bool>(d, "notify_call");
  system.unit.kind = choice<Kind>(d, "unit", {{"kernel", Kind::kKernel},
                                              {"kernels", Kind::kKernels},
                                              {"us", Kind::kTime},
                                              {"job", Kind::kJob}});
  system.unit.kernels = get<int>(d, "unit_kernels");
  system.unit.us = get<double>(d, "unit_us");
  system.learned_estimates = get<bool>(d, "learned_estimates");
  system.warm_up = get<bool>(d, "warm_up");
  system.slo_factor = get<double>(d, "slo_factor");
  const py::object policy = d["policy"];
  if (py::isinstance<py::str>(policy)) {
    const auto name = policy.cast<std::string>();
    const auto options = get<sched::Options>(d, "policy_options");
    system.make_policy = [name, options] { return sched::make_policy(name, options); };
    system.make_policy();  // reports a bad option before the run
  } else {
    system.make_policy = [policy] { return std::make_unique<PythonPolicy>(policy); };
  }
  system.admission = get<std::string>(d, "admission");
  system.admission_options = get<sched::AdmissionOptions>(d, "admission_options");
  system.request_latency_us = get<double>(d, "request_latency_us");
  system.request_cpu_us = get<double>(d, "request_cpu_us");
  system.response_latency_us = get<double>(d, "response_latency_us");
  return system;
}

engine::SimulationSpec simulation_spec(const py::dict& d) {
  engine::SimulationSpec spec;
  spec.device = device_spec(get<py::dict>(d, "device"));
  spec.reference = device_spec(get<py::dict>(d, "reference"));
  spec.models = model_plans(get<py::list>(d, "models"));
  spec.instances = get<std::vector<std::int32_t>>(d, "instances");
  spec.cap = get<std::int64_t>(d, "cap");
  spec.system = system_spec(get<py::dict>(d, "system"));
  spec.mps = get<bool>(d, "mps");
  spec.job_models = get<std::vector<std::int32_t>>(d, "job_models");
  spec.job_due_ns = get<std::vector<TimeNs>>(d, "job_due_ns");
  spec.closed_loop = get<std::int32_t>(d, "closed_loop");
  spec.think_ns = get<TimeNs>(d, "think_ns");
  spec.timeline = get<bool>(d, "timeline");
  return spec;
}

py::dict simulate(const py::dict& d) {
  const engine::SimulationSpec spec = simulation_spec(d);
  const bool python_policy = !py::isinstance<py::str>(get<py::dict>(d, "system")["policy"]);
  engine::SimulationResult result;
  if (python_policy) {
    result = engine::simulate(spec);
  } else {
    const py::gil_scoped_release release;
    result = engine::simulate(spec);
  }
  py::dict out;
  out["model"] = array(result.jobs.model);
  out["due_ns"] = array(result.jobs.due_ns);
  out["submitted_ns"] = array(result.jobs.submitted_ns);
  out["started_ns"] = array(result.jobs.started_ns);
  out["finished_ns"] = array(result.jobs.finished_ns);
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
  m.attr("engine_version") = PAELLA_ENGINE_VERSION;
  m.attr("git_revision") = PAELLA_GIT_REVISION;
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
