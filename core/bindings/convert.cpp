#include "convert.hpp"

namespace paella::bindings {

plan::SmLimits sm_limits(const py::dict& d) {
  return {get<int>(d, "count"), get<int>(d, "threads"),    get<int>(d, "blocks"),
          get<int>(d, "regs"),  get<int>(d, "smem_bytes"), get<int>(d, "reserved_smem_bytes")};
}

gpu::DeviceSpec device_spec(const py::dict& d) {
  gpu::DeviceSpec device;
  device.name = get<std::string>(d, "name");
  device.sm = sm_limits(get<py::dict>(d, "sm"));
  device.clock_scale = get<double>(d, "clock_scale");
  device.l2_bytes = get<double>(d, "l2_bytes");
  device.lanes_scale = get<double>(d, "lanes_scale");
  const auto g = get<py::dict>(d, "gpu");
  gpu::GpuModel& gpu = device.gpu;
  gpu.saturation_warps = get<double>(g, "saturation_warps");
  gpu.light_weight = get<double>(g, "light_weight");
  gpu.cache_penalty = get<double>(g, "cache_penalty");
  gpu.ramp_us = get<double>(g, "ramp_us");
  gpu.stream_gap_us = get<double>(g, "stream_gap_us");
  gpu.graph_gap_us = get<double>(g, "graph_gap_us");
  gpu.contended_gap_us = get<double>(g, "contended_gap_us");
  gpu.graph_start_us = get<double>(g, "graph_start_us");
  gpu.launch_latency_us = get<double>(g, "launch_latency_us");
  gpu.notify_latency_us = get<double>(g, "notify_latency_us");
  gpu.message_us = get<double>(g, "message_us");
  gpu.query_latency_us = get<double>(g, "query_latency_us");
  gpu.callback_latency_us = get<double>(g, "callback_latency_us");
  gpu.notes_us = get<double>(g, "notes_us");
  gpu.notes_work_us = get<double>(g, "notes_work_us");
  gpu.time_slice_us = get<double>(g, "time_slice_us");
  gpu.resident_kernels = get<int>(d, "resident_kernels");
  gpu.graph_queues = get<int>(g, "graph_queues");
  const auto c = get<py::dict>(d, "copy");
  device.copy = {get<double>(c, "h2d_bytes_per_us"), get<double>(c, "d2h_bytes_per_us"),
                 get<double>(c, "latency_us")};
  const auto h = get<py::dict>(d, "host");
  gpu::HostCosts& host = device.host;
  for (const auto& [queues, us] : get<std::map<int, double>>(h, "issue_us")) {
    host.issue_us.emplace_back(queues, us);
  }
  host.first_launch_us = get<double>(h, "first_launch_us");
  host.graph_issue_us = get<double>(h, "graph_issue_us");
  host.graph_kernel_us = get<double>(h, "graph_kernel_us");
  host.notify_issue_us = get<double>(h, "notify_issue_us");
  host.poll_us = get<double>(h, "poll_us");
  host.message_us = get<double>(h, "message_us");
  host.request_us = get<double>(h, "request_us");
  host.decision_us = get<double>(h, "decision_us");
  host.admission_us = get<double>(h, "admission_us");
  return device;
}

std::vector<plan::Model> model_plans(const py::list& list) {
  std::vector<plan::Model> models;
  for (const py::handle item : list) {
    const auto d = item.cast<py::dict>();
    plan::Model model{get<std::string>(d, "name"), {}, get<std::int64_t>(d, "input_bytes"),
                      get<std::int64_t>(d, "output_bytes"), get<std::int64_t>(d, "weights_bytes"),
                      get<std::int64_t>(d, "arena_bytes")};
    // One tuple a kernel: name, blocks, threads, registers, shared memory, ns, load.
    for (const py::handle row : get<py::list>(d, "kernels")) {
      const auto k = row.cast<py::tuple>();
      model.kernels.push_back({k[0].cast<std::string>(),
                               k[1].cast<std::int64_t>(),
                               {k[2].cast<int>(), k[3].cast<int>(), k[4].cast<int>()},
                               k[5].cast<TimeNs>(),
                               k[6].cast<double>()});
    }
    models.push_back(std::move(model));
  }
  return models;
}

py::dict timeline_dict(const record::Timeline& timeline) {
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

}  // namespace paella::bindings
