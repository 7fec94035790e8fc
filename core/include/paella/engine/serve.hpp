#pragma once

#include <vector>

#include "paella/engine/server.hpp"
#include "paella/engine/simulate.hpp"
#include "paella/gpu/cuda/cuda_device.hpp"

namespace paella::engine {

struct ServeOptions {
  int cpu = -1;          // of the serving thread, which is the calling one; -1 is any
  int watcher_cpu = -1;  // of the thread that looks for ends, where there is one
  TimeNs start_at_ns = 0;  // CLOCK_MONOTONIC; 0 is at once
  double watchdog_s = 10;  // how long units may be on the GPU without any of them ending
};

struct ServeResult {
  record::Jobs jobs;
  ServerCounters counters;
  TimeNs elapsed_ns = 0;
  std::int64_t outputs_checked = 0;
  // Of the serving loop, without the driver's calls: what disturbs it shows here.
  TimeNs longest_turn_ns = 0;
  // Of turns in which units were submitted or told something, without the driver's calls and the
  // looking at outputs; turns in which the thread lost its core are left out.
  TimeNs own_ns = 0;
  std::vector<double> handoffs_us;  // from a unit's end, as seen, to the next unit issued
};

// Error where a specification contradicts itself, or asks for what serve() does not do.
void check_served(const SimulationSpec& spec);

// Serves all jobs of a run on a real GPU. Of `spec` the simulated GPU's parameters are not used. The
// result times are CLOCK_MONOTONIC's, from the start of the trace. Throws Error if the run cannot go
// on, if the GPU fails or stands still, or if a job's output is wrong; the device is not to be used
// after that.
ServeResult serve(const SimulationSpec& spec, const ServeOptions& options,
                  gpu::cuda::CudaDevice& device);

}  // namespace paella::engine
