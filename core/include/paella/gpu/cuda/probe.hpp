#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// What it costs the host to drive this GPU, and how its hardware queues behave: measured with the
// driver API, for a device's description. CUDA_DEVICE_MAX_CONNECTIONS counts when a process makes
// its first context: another number of queues is another process.
namespace paella::gpu::cuda {

struct Spread {
  double median_us = 0;
  double p99_us = 0;
};

struct LaunchCost {
  int streams = 0;  // launched into in turn
  double us = 0;    // of the calling thread, per empty kernel
};

struct GraphCost {
  int kernels = 0;
  double issue_us = 0;
  double until_done_us = 0;  // from the call until a synchronisation has returned
};

// From just before an empty kernel is issued, with its notification, until the host has seen it.
struct NotificationCost {
  std::string kind;     // what tells
  std::string seen_by;  // "same_thread", or another one on the "same_core" or an "other_core"
  Spread latency;
};

struct CopyCost {
  std::int64_t bytes = 0;
  double issue_us = 0;
  double until_done_us = 0;
};

struct HostCosts {
  std::vector<LaunchCost> launches;
  double first_launch_us = 0;  // what it costs more in a new stream
  std::vector<GraphCost> graphs;
  std::optional<double> write_value_us;  // cuStreamWriteValue32; none where the GPU cannot
  double event_record_us = 0;
  double host_function_us = 0;
  double stream_query_idle_us = 0;
  double stream_query_busy_us = 0;
  double event_query_busy_us = 0;
  std::vector<NotificationCost> notifications;
  double poll_unchanged_ns = 0;  // one read of a mapped word
  double poll_changed_ns = 0;    // the read that first sees what the GPU wrote
  CopyCost copy_in;              // page-locked memory
  CopyCost copy_out;
};

// Each figure is a median over `repetitions`; Error when the GPU does not answer within 5 s.
HostCosts measure_host_costs(int device, int repetitions);

struct QueueTime {
  std::string order;  // of issue: "job_by_job", "kernel_by_kernel" or "independent"
  int streams = 0;
  std::optional<double> us;  // none where issuing outlasted the gate
};

struct QueueTimes {
  double chained_kernel_us = 0;  // one alone, end to end in a chain
  std::vector<QueueTime> times;
};

// N streams of 8 one-block kernels of 95 us each, one after the other, all issued behind a gate and
// released at once; and one 550 us kernel in each of N streams without a gate.
QueueTimes measure_hardware_queues(int device);

}  // namespace paella::gpu::cuda
