#include "run_spec.hpp"

#include "python_policy.hpp"

namespace paella::bindings {

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

bool has_python_policy(const py::dict& d) {
  return !py::isinstance<py::str>(get<py::dict>(d, "system")["policy"]);
}

py::dict jobs_dict(const record::Jobs& jobs) {
  py::dict out;
  out["model"] = array(jobs.model);
  out["due_ns"] = array(jobs.due_ns);
  out["submitted_ns"] = array(jobs.submitted_ns);
  out["started_ns"] = array(jobs.started_ns);
  out["finished_ns"] = array(jobs.finished_ns);
  return out;
}

}  // namespace paella::bindings
