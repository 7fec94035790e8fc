#include "bindings.hpp"

#include <cstdlib>
#include <string>

#include <pybind11/stl.h>

#include "paella/error.hpp"
#include "paella/gpu/cuda/driver.hpp"
#include "paella/gpu/cuda/probe.hpp"
#include "results.hpp"

namespace paella::bindings {
namespace {

namespace py = pybind11;
namespace cuda = gpu::cuda;

py::list cuda_devices() {
  py::list list;
  for (const auto& d : cuda::devices()) {
    py::dict device;
    device["name"] = d.name;
    device["compute_capability"] = d.compute_capability;
    device["driver_version"] = d.driver_version;
    device["memory_bytes"] = d.memory_bytes;
    device["sms"] = d.sms;
    device["threads_per_sm"] = d.threads_per_sm;
    device["blocks_per_sm"] = d.blocks_per_sm;
    device["regs_per_sm"] = d.regs_per_sm;
    device["smem_per_sm"] = d.smem_per_sm;
    device["reserved_smem_per_block"] = d.reserved_smem_per_block;
    device["l2_bytes"] = d.l2_bytes;
    device["copy_engines"] = d.copy_engines;
    device["clock_khz"] = d.clock_khz;
    list.append(make("CudaDevice", device));
  }
  return list;
}

py::dict copy_dict(const cuda::CopyCost& copy) {
  py::dict dict;
  dict["bytes"] = copy.bytes;
  dict["issue_us"] = copy.issue_us;
  dict["until_done_us"] = copy.until_done_us;
  return dict;
}

py::dict host_dict(const cuda::HostCosts& costs) {
  py::dict dict, launches, graphs, seen;
  for (const auto& l : costs.launches) launches[py::int_(l.streams)] = l.us;
  for (const auto& g : costs.graphs) {
    py::dict graph;
    graph["issue_us"] = g.issue_us;
    graph["until_done_us"] = g.until_done_us;
    graphs[py::int_(g.kernels)] = graph;
  }
  for (const auto& n : costs.notifications) {
    py::dict latency;
    latency["median_us"] = n.latency.median_us;
    latency["p99_us"] = n.latency.p99_us;
    const py::str by(n.seen_by);
    if (!seen.contains(by)) seen[by] = py::dict();
    seen[by].cast<py::dict>()[py::str(n.kind)] = latency;
  }
  dict["launch_us_by_streams"] = launches;
  dict["first_launch_us"] = costs.first_launch_us;
  dict["graph_by_kernels"] = graphs;
  dict["write_value_us"] = costs.write_value_us;
  dict["event_record_us"] = costs.event_record_us;
  dict["host_function_us"] = costs.host_function_us;
  dict["stream_query_idle_us"] = costs.stream_query_idle_us;
  dict["stream_query_busy_us"] = costs.stream_query_busy_us;
  dict["event_query_busy_us"] = costs.event_query_busy_us;
  dict["launch_to_seen_by"] = seen;
  dict["poll_unchanged_ns"] = costs.poll_unchanged_ns;
  dict["poll_changed_ns"] = costs.poll_changed_ns;
  dict["copy_in"] = copy_dict(costs.copy_in);
  dict["copy_out"] = copy_dict(costs.copy_out);
  return dict;
}

py::dict queue_dict(const cuda::QueueTimes& queues) {
  py::dict dict;
  dict["chained_kernel_us"] = queues.chained_kernel_us;
  for (const auto& t : queues.times) {
    const py::str key(t.order + "_us_by_streams");
    if (!dict.contains(key)) dict[key] = py::dict();
    dict[key].cast<py::dict>()[py::int_(t.streams)] = t.us;
  }
  return dict;
}

py::dict cuda_probe(int device, int repetitions) {
  if (device < 0) throw Error("there is no device " + std::to_string(device));
  if (repetitions < 1) throw Error("a probe needs at least one repetition");
  cuda::HostCosts costs;
  cuda::QueueTimes queues;
  {
    const py::gil_scoped_release release;
    costs = cuda::measure_host_costs(device, repetitions);
    queues = cuda::measure_hardware_queues(device);
  }
  py::dict dict;
  const char* connections = std::getenv("CUDA_DEVICE_MAX_CONNECTIONS");
  dict["max_connections"] = connections ? py::object(py::str(connections)) : py::none();
  dict["repetitions"] = repetitions;
  dict["host"] = host_dict(costs);
  dict["queues"] = queue_dict(queues);
  return dict;
}

}  // namespace

void bind_cuda(py::module_& m) {
  m.def("cuda_devices", &cuda_devices,
        "The CUDA devices of this machine; Error where there is no driver or no device.");
  m.def("cuda_probe", &cuda_probe, py::arg("device") = 0, py::kw_only(),
        py::arg("repetitions") = 1000,
        "What driving a GPU costs the host, and how its hardware queues behave; takes seconds. "
        "CUDA_DEVICE_MAX_CONNECTIONS has to be set before the process first uses CUDA.");
}

}  // namespace paella::bindings
