#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "paella/plan/occupancy.hpp"
#include "paella/spec/fields.hpp"

// A GPU with its host, as paella.schema.Device describes it: what each number means is said there.
namespace paella::gpu {

// The simulated GPU's behaviour beyond the limits.
struct GpuModel {
  double saturation_warps = 0;
  double light_weight = 1;
  double cache_penalty = 0;
  double ramp_us = 0;
  double stream_gap_us = 0;
  double graph_gap_us = 0;
  double contended_gap_us = 0;
  double graph_start_us = 0;
  double launch_latency_us = 0;
  double notify_latency_us = 0;
  double message_us = 0;
  double notes_us = 0;
  double notes_work_us = 0;
  double query_latency_us = 0;
  double callback_latency_us = 0;
  double time_slice_us = 0;
  std::int32_t graph_queues = 0;
};

template <spec::Of<GpuModel> Self>
void fields(Self& self, auto&& field) {
  field("saturation_warps", self.saturation_warps);
  field("light_weight", self.light_weight);
  field("cache_penalty", self.cache_penalty);
  field("ramp_us", self.ramp_us);
  field("stream_gap_us", self.stream_gap_us);
  field("graph_gap_us", self.graph_gap_us);
  field("contended_gap_us", self.contended_gap_us);
  field("graph_start_us", self.graph_start_us);
  field("launch_latency_us", self.launch_latency_us);
  field("notify_latency_us", self.notify_latency_us);
  field("message_us", self.message_us);
  field("notes_us", self.notes_us);
  field("notes_work_us", self.notes_work_us);
  field("query_latency_us", self.query_latency_us);
  field("callback_latency_us", self.callback_latency_us);
  field("time_slice_us", self.time_slice_us);
  field("graph_queues", self.graph_queues);
}

struct CopyRates {
  double h2d_bytes_per_us = 0;
  double d2h_bytes_per_us = 0;
  double latency_us = 0;
};

template <spec::Of<CopyRates> Self>
void fields(Self& self, auto&& field) {
  field("h2d_bytes_per_us", self.h2d_bytes_per_us);
  field("d2h_bytes_per_us", self.d2h_bytes_per_us);
  field("latency_us", self.latency_us);
}

// CPU time of the thread that does it.
struct HostCosts {
  std::vector<std::pair<double, double>> issue_us;  // hardware queues in use -> one launch
  double first_launch_us = 0;
  double graph_issue_us = 0;
  double graph_kernel_us = 0;
  double notify_issue_us = 0;
  double poll_us = 0;
  double message_us = 0;
  double request_us = 0;
  double decision_us = 0;
  double admission_us = 0;

  // Linear between the given numbers of queues.
  double issue_at(int queues) const;
};

template <spec::Of<HostCosts> Self>
void fields(Self& self, auto&& field) {
  field("issue_us", self.issue_us);
  field("first_launch_us", self.first_launch_us);
  field("graph_issue_us", self.graph_issue_us);
  field("graph_kernel_us", self.graph_kernel_us);
  field("notify_issue_us", self.notify_issue_us);
  field("poll_us", self.poll_us);
  field("message_us", self.message_us);
  field("request_us", self.request_us);
  field("decision_us", self.decision_us);
  field("admission_us", self.admission_us);
}

struct DeviceSpec {
  std::string label;
  plan::SmLimits sm;
  GpuModel gpu;
  HostCosts host;
  CopyRates copy;
  double clock_scale = 1;
  double lanes_scale = 1;
  double l2_bytes = 0;
  std::int32_t resident_kernels = 0;
  std::int32_t hardware_queues = 0;
  std::int32_t mps_queues = 0;
};

template <spec::Of<DeviceSpec> Self>
void fields(Self& self, auto&& field) {
  field("label", self.label, spec::Role::kDescription);
  field("sm", self.sm);
  field("gpu", self.gpu);
  field("host", self.host);
  field("copy", self.copy);
  field("clock_scale", self.clock_scale);
  field("lanes_scale", self.lanes_scale);
  field("l2_bytes", self.l2_bytes);
  field("resident_kernels", self.resident_kernels);
  field("hardware_queues", self.hardware_queues);
  field("mps_queues", self.mps_queues);
}

}  // namespace paella::gpu
