#include "paella/apps/measured_run.hpp"

#include <string>

#include "paella/clock.hpp"
#include "paella/engine/loop.hpp"
#include "paella/engine/serving.hpp"
#include "paella/error.hpp"
#include "paella/on_cpu.hpp"

namespace paella::apps {
namespace {

constexpr TimeNs kLeadNs = 1'000'000;  // before the first request may be due

}  // namespace

void check_measured(const engine::RunSpec& spec) {
  engine::check(spec);
  if (spec.system.process_per_model() || spec.system.thread_per_instance()) {
    throw Error("one process with one issuing thread serves on a real GPU");
  }
}

MeasuredRun measure(const engine::RunSpec& spec, const engine::MakePolicy& make_policy,
                    const MeasuredOptions& options, gpu::Device& device) {
  check_measured(spec);
  MeasuredRun run;
  run.jobs = engine::jobs_of(spec);
  const auto here = device.enter();
  const OnCpu pinned(options.cpu);
  const engine::Serving serving(spec, make_policy, options.watcher_cpu, device, run.jobs);
  const TimeNs ready = monotonic_ns();
  if (options.start_at_ns > 0 && options.start_at_ns < ready) {
    throw Error("the run was not ready when it was to start, but " +
                std::to_string((ready - options.start_at_ns) / 1'000'000) + " ms later");
  }
  device.start_clock(options.start_at_ns > 0 ? options.start_at_ns : ready + kLeadNs);
  const auto idle = [&](TimeNs, TimeNs wake_ns) {
    if (wake_ns == kNever) engine::cannot_go_on(run.jobs);
    return false;
  };
  engine::Loop loop(device, serving.servers(), {{}, idle});
  loop.run();
  run.counters = serving.counters();
  run.elapsed_ns = device.now();
  run.longest_turn_ns = loop.take_longest_turn_ns();
  run.own_ns = loop.own_ns();
  while (device.use_spare_time()) continue;
  run.device = device.counters();
  return run;
}

}  // namespace paella::apps
