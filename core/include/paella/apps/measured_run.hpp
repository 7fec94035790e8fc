#pragma once

#include <vector>

#include "paella/engine/run_spec.hpp"
#include "paella/engine/server.hpp"
#include "paella/gpu/device.hpp"
#include "paella/record/jobs.hpp"

namespace paella::apps {

struct MeasuredOptions {
  int cpu = -1;            // of the serving thread, which is the calling one; -1 is any
  int watcher_cpu = -1;    // of the thread that looks for ends, where there is one
  TimeNs start_at_ns = 0;  // CLOCK_MONOTONIC; 0 is at once
};

struct MeasuredRun {
  record::Jobs jobs;
  engine::ServerCounters counters;
  gpu::DeviceCounters device;
  TimeNs elapsed_ns = 0;
  TimeNs longest_turn_ns = 0;  // of the loop, without the driver's calls
  TimeNs own_ns = 0;           // of its turns in which something was done, likewise
};

// Error where a specification contradicts itself, or asks for what measure() does not do.
void check_measured(const engine::RunSpec& spec);

// Serves all jobs of a run on a device that has its models, as time passes. The times of the result
// are CLOCK_MONOTONIC's, from the start of the trace. Throws Error if the run cannot go on, if the
// device fails or stands still, or if a job's output is wrong; the device is not to be used after
// that.
MeasuredRun measure(const engine::RunSpec& spec, const engine::MakePolicy& make_policy,
                    const MeasuredOptions& options, gpu::Device& device);

}  // namespace paella::apps
