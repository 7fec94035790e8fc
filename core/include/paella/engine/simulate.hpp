#pragma once

#include <vector>

#include "paella/engine/client.hpp"
#include "paella/engine/system.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"
#include "paella/record/jobs.hpp"
#include "paella/record/timeline.hpp"

namespace paella::engine {

// Everything that a run depends on.
struct SimulationSpec {
  gpu::DeviceSpec device;
  gpu::DeviceSpec reference;  // the device that the models' kernels were measured on
  std::vector<plan::Model> models;
  std::vector<std::int32_t> instances;  // of each model
  std::int64_t cap = 0;                 // jobs in flight; with a process per model, its instances
  SystemSpec system;
  bool mps = true;  // processes share the GPU; else they take turns
  std::vector<std::int32_t> job_models;
  std::vector<TimeNs> job_due_ns;   // ignored in a closed loop
  std::int32_t closed_loop = 0;
  TimeNs think_ns = 0;
  bool timeline = false;
};

// The one client of a run whose jobs all come to one server.
ClientSpec client_spec(const SimulationSpec& spec);
// Error where the parts of a specification contradict each other.
void check(const SimulationSpec& spec);

struct SimulationResult {
  record::Jobs jobs;
  record::Timeline timeline;
  std::int64_t dispatches = 0;
  std::int64_t extra_kernels = 0;
  double host_cpu_us = 0;       // of the dispatcher or the issuing threads
  TimeNs elapsed_ns = 0;        // of the engine's clock, warm-up included
  std::int64_t block_groups = 0;  // events of the GPU model
};

// Runs all jobs to their end. Deterministic. Throws Error if the run cannot go on.
SimulationResult simulate(const SimulationSpec& spec);

}  // namespace paella::engine
