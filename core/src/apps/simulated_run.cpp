#include "paella/apps/simulated_run.hpp"

#include "paella/engine/loop.hpp"
#include "paella/engine/serving.hpp"
#include "paella/gpu/sim/sim_device.hpp"

namespace paella::apps {
namespace {

using gpu::sim::Sharing;

// A warm-up lies before time 0; only one server can have had one.
void move_to_start(record::Timeline& timeline, TimeNs start_ns) {
  for (auto& span : timeline.kernels) {
    for (TimeNs* t : {&span.eligible_ns, &span.started_ns, &span.finished_ns}) *t -= start_ns;
  }
  for (auto& span : timeline.blocks) {
    for (TimeNs* t : {&span.started_ns, &span.finished_ns}) *t -= start_ns;
  }
}

}  // namespace

SimulatedRun simulate(const engine::RunSpec& spec, const engine::MakePolicy& make_policy) {
  engine::check(spec);
  SimulatedRun run;
  run.jobs = engine::jobs_of(spec);
  const bool mps = spec.system.sharing == engine::Sharing::kMps;
  gpu::sim::SimDevice device(spec.device, spec.reference,
                             mps ? Sharing::kMps : Sharing::kTimeSliced,
                             spec.timeline ? &run.timeline : nullptr);
  engine::install_models(spec, device);
  const engine::Serving serving(spec, make_policy, -1, device, run.jobs);
  engine::Loop loop(device, serving.servers(), {{}, [&](TimeNs, TimeNs) -> bool {
                      engine::cannot_go_on(run.jobs);
                    }});
  loop.run();
  move_to_start(run.timeline, serving.start_ns());
  run.counters = serving.counters();
  run.elapsed_ns = device.now();
  run.block_groups = device.counters().block_groups;
  return run;
}

}  // namespace paella::apps
