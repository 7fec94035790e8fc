#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "paella/plan/model.hpp"
#include "paella/plan/occupancy.hpp"

namespace paella::gpu {

// The simulated GPU's behaviour beyond the limits; docs/gpu-model.md explains each.
struct GpuModel {
  // Where a kernel's load is not measured: the resident warps at which an SM is busy, and what a
  // warp counts for if the kernel uses no shared memory.
  double saturation_warps = 0;
  double light_weight = 1;
  double cache_penalty = 0;         // more work for each doubling of the working set past the L2
  double ramp_us = 0;               // part of a kernel's time that loads no SM
  double stream_gap_us = 0;         // between two kernels of a stream
  double graph_gap_us = 0;          // between two kernels of a graph
  double contended_gap_us = 0;      // at least this, while other streams have work
  double graph_start_us = 0;        // between an operation of a stream and a graph behind it
  double launch_latency_us = 0;     // from the end of the launch call to the GPU
  double notify_latency_us = 0;     // from a block's write to the host's read
  double message_us = 0;            // serial cost of one notification on the way to the host
  double notes_us = 0;              // that a kernel whose blocks send notifications takes longer
  double notes_work_us = 0;         // and each of its blocks has more work
  double query_latency_us = 0;      // from a stream's end to a successful query
  double callback_latency_us = 0;   // from a stream's end to a host function
  double time_slice_us = 0;         // of a process, without MPS
  std::int32_t resident_kernels = 0;
  std::int32_t graph_queues = 0;    // hardware queues of graphs; 0: those of the streams
};

struct CopyRates {
  double h2d_bytes_per_us = 0;
  double d2h_bytes_per_us = 0;
  double latency_us = 0;
};

// CPU time of the thread that does it.
struct HostCosts {
  std::vector<std::pair<double, double>> issue_us;  // hardware queues in use -> one launch
  double first_launch_us = 0;  // more for the first launch into a stream
  double graph_issue_us = 0;   // of a graph
  double graph_kernel_us = 0;  // and of each kernel in it
  double notify_issue_us = 0;  // a stream-ordered write after a unit of plain kernels
  double poll_us = 0;          // one look at the rings
  double message_us = 0;       // one notification
  double request_us = 0;       // one request taken from a client
  double decision_us = 0;      // one decision of the policy and the admission
  double admission_us = 0;     // and more, if the admission counts resources

  // Linear between the given numbers of queues.
  double issue_at(int queues) const;
};

struct DeviceSpec {
  std::string name;
  plan::SmLimits sm;
  double clock_scale = 1;  // relative to the device that the profile was measured on
  double lanes_scale = 1;
  double l2_bytes = 0;
  GpuModel gpu;
  CopyRates copy;
  HostCosts host;
};

// A kernel as the simulated GPU sees it.
struct KernelCost {
  std::int64_t blocks = 0;
  plan::SmUnits block;                              // what one block occupies
  float inv_warps = 0, inv_regs = 0, inv_smem = 0;  // reciprocals, large where nothing is used
  std::int32_t blocks_per_sm = 0;
  double load = 0;     // of one block, as a fraction of an SM's rate
  double work_ns = 0;  // of one block at full rate
};

// By how much an SM under this load slows each of its blocks (rule 10).
inline double slowdown(double load) { return std::max(1.0, load); }

// What `kernel`, measured alone on `reference`, costs on `device`. Throws Error if it fits no SM.
KernelCost kernel_cost(const plan::Kernel& kernel, const DeviceSpec& reference,
                       const DeviceSpec& device);

}  // namespace paella::gpu
