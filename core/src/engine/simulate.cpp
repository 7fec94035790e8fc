#include "paella/engine/simulate.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

#include "paella/engine/client.hpp"
#include "paella/engine/direct.hpp"
#include "paella/engine/dispatcher.hpp"
#include "paella/error.hpp"
#include "paella/gpu/sim/sim_device.hpp"

namespace paella::engine {
namespace {

using gpu::sim::SimDevice;

std::vector<gpu::StreamId> make_streams(SimDevice& device, int process, std::int32_t count) {
  std::vector<gpu::StreamId> streams;
  for (std::int32_t i = 0; i < count; ++i) streams.push_back(device.add_stream(process));
  return streams;
}

class Simulation {
 public:
  explicit Simulation(const SimulationSpec& spec)
      : spec_(spec),
        device_(spec.device, spec.reference, spec.models,
                spec.mps ? gpu::sim::Sharing::kMps : gpu::sim::Sharing::kTimeSliced,
                spec.timeline ? &result_.timeline : nullptr) {
    for (std::size_t i = 0; i < spec.job_models.size(); ++i) {
      result_.jobs.add(spec.job_models[i], spec.closed_loop > 0 ? 0 : spec.job_due_ns[i]);
    }
    if (spec.system.dispatcher) {
      add_dispatcher();
    } else if (spec.system.process_per_model) {
      add_processes();
    } else {
      add_direct(client_spec(spec), spec.system.streams);
    }
  }

  SimulationResult run() {
    while (choose_next()) {
      // The GPU first, so that a host thread sees all that has happened by its own time. Until it
      // tells the host something, the servers' plans stand.
      const std::int64_t told = device_.events_sent();
      TimeNs gpu = device_.next_ns();
      while (gpu != kNever && gpu <= wake_ns_ && device_.events_sent() == told) {
        elapsed_ns_ = gpu;
        device_.step(gpu);
        gpu = device_.next_ns();
      }
      if (device_.events_sent() != told) continue;
      if (wake_ns_ == kNever) {
        throw Error("the run cannot go on: " + unfinished() +
                    " jobs wait for an admission that never comes");
      }
      elapsed_ns_ = wake_ns_;
      next_->step();
    }
    result_.elapsed_ns = elapsed_ns_;
    // A warm-up lies before time 0; only one server can have had one.
    const TimeNs start = servers_.front()->start_ns();
    for (auto& span : result_.timeline.kernels) {
      for (TimeNs* t : {&span.eligible_ns, &span.started_ns, &span.finished_ns}) *t -= start;
    }
    for (auto& span : result_.timeline.blocks) {
      for (TimeNs* t : {&span.started_ns, &span.finished_ns}) *t -= start;
    }
    result_.block_groups = device_.groups_placed();
    for (const auto& counters : counters_) {
      const ServerCounters c = counters();
      result_.dispatches += c.dispatches;
      result_.extra_kernels += c.extra_kernels;
      result_.host_cpu_us += c.cpu_us;
    }
    return std::move(result_);
  }

 private:
  // The server that wakes first is next_, at wake_ns_; false when all are done.
  bool choose_next() {
    next_ = nullptr;
    wake_ns_ = kNever;
    for (const auto& server : servers_) {
      if (server->done()) continue;
      const TimeNs at = server->wake_ns();
      if (at < wake_ns_ || !next_) {
        wake_ns_ = at;
        next_ = server.get();
      }
    }
    return next_ != nullptr;
  }

  void add_dispatcher() {
    const SystemSpec& system = spec_.system;
    const int process = device_.add_process(system.hardware_queues);
    auto streams = make_streams(device_, process, system.streams);
    const gpu::HostCosts& host = spec_.device.host;
    const double admission_us = system.admission == "resources" ? host.admission_us : 0;
    add(std::make_unique<Dispatcher>(
        system, spec_.models, spec_.device.sm,
        DispatcherCosts{host.request_us, host.decision_us + admission_us},
        device_.add_port(process, system.notify_blocks), std::move(streams),
        add_client(client_spec(spec_))));
  }

  void add_processes() {
    for (std::size_t m = 0; m < spec_.models.size(); ++m) {
      ClientSpec client = client_spec(spec_);
      std::erase_if(client.jobs, [&](std::int32_t job) {
        return spec_.job_models[job] != static_cast<std::int32_t>(m);
      });
      if (client.jobs.empty()) continue;
      client.cap = spec_.instances[m];
      const auto streams = static_cast<std::int32_t>(client.cap);
      add_direct(std::move(client), streams);
    }
  }

  void add_direct(ClientSpec client, std::int32_t stream_count) {
    const SystemSpec& system = spec_.system;
    const int process = device_.add_process(system.hardware_queues);
    auto streams = make_streams(device_, process, stream_count);
    auto& watcher = device_.add_port(process, system.notify_blocks);
    const std::int32_t threads =
        system.thread_per_instance
            ? std::accumulate(spec_.instances.begin(), spec_.instances.end(), 0)
            : 1;
    std::vector<gpu::Port*> ports;
    for (std::int32_t i = 0; i < threads; ++i) ports.push_back(&device_.add_port(process, watcher));
    add(std::make_unique<DirectSubmission>(system, spec_.models, spec_.instances, watcher,
                                           std::move(ports), std::move(streams),
                                           add_client(std::move(client))));
  }

  Client& add_client(ClientSpec client) {
    clients_.push_back(std::make_unique<Client>(std::move(client), result_.jobs));
    return *clients_.back();
  }

  template <class S>
  void add(std::unique_ptr<S> server) {
    counters_.push_back([s = server.get()] { return s->counters(); });
    servers_.push_back(std::move(server));
  }

  std::string unfinished() const {
    const auto& ends = result_.jobs.finished_ns;
    return std::to_string(std::count(ends.begin(), ends.end(), TimeNs{-1}));
  }

  const SimulationSpec& spec_;
  SimulationResult result_;
  SimDevice device_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::function<ServerCounters()>> counters_;
  Server* next_ = nullptr;
  TimeNs wake_ns_ = kNever;
  TimeNs elapsed_ns_ = 0;
};

}  // namespace

SimulationResult simulate(const SimulationSpec& spec) {
  check(spec);
  return Simulation(spec).run();
}

}  // namespace paella::engine
