#pragma once

#include "paella/engine/run_spec.hpp"
#include "paella/engine/server.hpp"
#include "paella/record/jobs.hpp"
#include "paella/record/timeline.hpp"

namespace paella::apps {

struct SimulatedRun {
  record::Jobs jobs;
  record::Timeline timeline;
  engine::ServerCounters counters;
  TimeNs elapsed_ns = 0;          // of the engine's clock, warm-up included
  std::int64_t block_groups = 0;  // events of the GPU model
};

// Runs all jobs to their end on the simulated GPU. Deterministic. Throws Error if the run cannot go
// on.
SimulatedRun simulate(const engine::RunSpec& spec, const engine::MakePolicy& make_policy);

}  // namespace paella::apps
