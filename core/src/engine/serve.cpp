#include "paella/engine/serve.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

#include "paella/clock.hpp"
#include "paella/engine/client.hpp"
#include "paella/engine/direct.hpp"
#include "paella/engine/dispatcher.hpp"
#include "paella/engine/stages.hpp"
#include "paella/engine/watchdog.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/cuda_port.hpp"
#include "paella/on_cpu.hpp"

namespace paella::engine {
namespace {

using gpu::cuda::CudaPort;

constexpr TimeNs kLeadNs = 1'000'000;           // before the first request may be due
constexpr TimeNs kPreemptedNs = 200'000;        // more than any turn of its own

std::vector<gpu::StreamId> streams(std::int32_t count) {
  std::vector<gpu::StreamId> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

std::vector<gpu::WorkUnit> units(const SimulationSpec& spec) {
  std::vector<gpu::WorkUnit> all;
  for (std::size_t m = 0; m < spec.models.size(); ++m) {
    for (const gpu::WorkUnit& unit : units_of(spec.models[m], spec.system)) {
      all.push_back(unit);
      all.back().model = static_cast<std::int32_t>(m);
    }
  }
  return all;
}

// The server of a run and the port it serves through.
class Serving {
 public:
  Serving(const SimulationSpec& spec, const ServeOptions& options,
          gpu::cuda::CudaDevice& device, record::Jobs& jobs)
      : watchdog_(options.watchdog_s), device_(device) {
    const SystemSpec& system = spec.system;
    const auto level = static_cast<std::uint32_t>(system.notify_blocks);
    requests_ = std::make_unique<Client>(client_spec(spec), jobs);
    if (system.dispatcher) {
      port_ = std::make_unique<gpu::cuda::PollingPort>(device, level);
      auto dispatcher =
          std::make_unique<Dispatcher>(system, spec.models, spec.device.sm, DispatcherCosts{},
                                       *port_, streams(system.streams), *requests_);
      counters_ = [d = dispatcher.get()] { return d->counters(); };
      server_ = std::move(dispatcher);
    } else {
      port_ = std::make_unique<gpu::cuda::WatchedPort>(device, level,
                                                       options.watcher_cpu);
      auto direct = std::make_unique<DirectSubmission>(
          system, spec.models, spec.instances, *port_, std::vector<gpu::Port*>{port_.get()},
          streams(system.streams), *requests_);
      counters_ = [d = direct.get()] { return d->counters(); };
      server_ = std::move(direct);
    }
  }

  void run(TimeNs origin_ns, ServeResult& result) {
    port_->begin(origin_ns);
    TimeNs before = port_->now();
    TimeNs outside_ns = device_.outside_ns();
    std::int64_t steps = 0;
    const std::int64_t checked = device_.outputs_checked();
    while (!server_->done()) {
      port_->tick();
      const TimeNs now = port_->now();
      const TimeNs own = now - before - (device_.outside_ns() - outside_ns);
      result.longest_turn_ns = std::max(result.longest_turn_ns, own);
      if (port_->steps() != steps && own < kPreemptedNs) result.own_ns += own;
      steps = port_->steps();
      outside_ns = device_.outside_ns();
      before = now;
      const TimeNs wake = server_->wake_ns();
      if (wake <= now) server_->step();
      if (port_->steps() == steps) device_.check_output();  // as there is time
      if (port_->in_flight() > 0) {
        watchdog_.look(device_, *port_);
      } else if (wake == kNever && !server_->done() && server_->wake_ns() == kNever) {
        throw Error("the run cannot go on: jobs wait for an admission that never comes");
      }
    }
    result.counters = counters_();
    result.elapsed_ns = port_->now();
    while (device_.check_output()) continue;
    result.outputs_checked = device_.outputs_checked() - checked;
    result.handoffs_us = port_->handoffs_us();
  }

 private:
  Watchdog watchdog_;
  gpu::cuda::CudaDevice& device_;
  std::unique_ptr<CudaPort> port_;
  std::unique_ptr<Client> requests_;
  std::unique_ptr<Server> server_;
  std::function<ServerCounters()> counters_;
};

}  // namespace

void check_served(const SimulationSpec& spec) {
  check(spec);
  if (spec.system.process_per_model || spec.system.thread_per_instance) {
    throw Error("one process with one issuing thread serves on a real GPU");
  }
}

ServeResult serve(const SimulationSpec& spec, const ServeOptions& options,
                  gpu::cuda::CudaDevice& device) {
  check_served(spec);
  ServeResult result;
  for (std::size_t i = 0; i < spec.job_models.size(); ++i) {
    result.jobs.add(spec.job_models[i], spec.closed_loop > 0 ? 0 : spec.job_due_ns[i]);
  }
  const auto here = device.enter();
  const OnCpu pinned(options.cpu);
  device.prepare(spec.system.streams,
                 spec.system.graphs ? units(spec) : std::vector<gpu::WorkUnit>{},
                 static_cast<std::uint32_t>(spec.system.notify_blocks));
  Serving serving(spec, options, device, result.jobs);
  const TimeNs ready = monotonic_ns();
  if (options.start_at_ns > 0 && options.start_at_ns < ready) {
    throw Error("the run was not ready when it was to start, but " +
                std::to_string((ready - options.start_at_ns) / 1'000'000) + " ms later");
  }
  serving.run(options.start_at_ns > 0 ? options.start_at_ns : ready + kLeadNs, result);
  return result;
}

}  // namespace paella::engine
