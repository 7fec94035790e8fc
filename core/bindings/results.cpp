#include "results.hpp"

namespace paella::bindings {

py::object make(const char* type, const py::dict& fields) {
  return py::module_::import("paella.core_types").attr(type)(**fields);
}

py::dict job_columns(const record::Jobs& jobs) {
  py::dict out;
  out["model"] = array(jobs.model);
  out["due_ns"] = array(jobs.due_ns);
  out["submitted_ns"] = array(jobs.submitted_ns);
  out["started_ns"] = array(jobs.started_ns);
  out["finished_ns"] = array(jobs.finished_ns);
  return out;
}

py::dict timeline_columns(const record::Timeline& timeline) {
  using K = record::KernelSpan;
  using B = record::BlockSpan;
  py::dict kernels, blocks, both;
  kernels["job"] = column(timeline.kernels, &K::job);
  kernels["model"] = column(timeline.kernels, &K::model);
  kernels["kernel"] = column(timeline.kernels, &K::kernel);
  kernels["stream"] = column(timeline.kernels, &K::stream);
  kernels["eligible_ns"] = column(timeline.kernels, &K::eligible_ns);
  kernels["started_ns"] = column(timeline.kernels, &K::started_ns);
  kernels["finished_ns"] = column(timeline.kernels, &K::finished_ns);
  blocks["kernel"] = column(timeline.blocks, &B::kernel);
  blocks["sm"] = column(timeline.blocks, &B::sm);
  blocks["blocks"] = column(timeline.blocks, &B::blocks);
  blocks["started_ns"] = column(timeline.blocks, &B::started_ns);
  blocks["finished_ns"] = column(timeline.blocks, &B::finished_ns);
  both["kernels"] = kernels;
  both["blocks"] = blocks;
  return both;
}

py::dict server_counters(const engine::ServerCounters& counters) {
  py::dict out;
  out["dispatches"] = counters.dispatches;
  out["extra_kernels"] = counters.extra_kernels;
  out["host_cpu_us"] = counters.cpu_us;
  return out;
}

}  // namespace paella::bindings
