#include "paella/engine/serving.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "paella/engine/direct.hpp"
#include "paella/engine/dispatcher.hpp"
#include "paella/engine/stages.hpp"
#include "paella/error.hpp"

namespace paella::engine {
namespace {

std::vector<gpu::WorkUnit> graph_units(const RunSpec& spec) {
  std::vector<gpu::WorkUnit> all;
  if (!spec.system.graphs()) return all;
  for (std::size_t m = 0; m < spec.models.size(); ++m) {
    for (gpu::WorkUnit unit : units_of(spec.models[m], spec.system)) {
      unit.model = static_cast<std::int32_t>(m);
      all.push_back(unit);
    }
  }
  return all;
}

}  // namespace

Serving::Serving(const RunSpec& spec, const MakePolicy& make_policy, int watcher_cpu,
                 gpu::Device& device, record::Jobs& jobs)
    : spec_(spec), watcher_cpu_(watcher_cpu), device_(device), jobs_(jobs) {
  if (spec.system.has_dispatcher()) {
    add_dispatcher(make_policy);
  } else if (spec.system.process_per_model()) {
    add_processes();
  } else {
    add_direct(client_spec(spec, jobs.size()), spec.streams());
  }
}

gpu::ProcessSpec Serving::process(std::int64_t streams) const {
  gpu::ProcessSpec process;
  process.streams = static_cast<std::int32_t>(streams);
  process.hardware_queues = spec_.hardware_queues();
  process.notify_blocks = spec_.system.notify_blocks();
  process.watcher_cpu = watcher_cpu_;
  process.units = graph_units(spec_);
  return process;
}

void Serving::add_dispatcher(const MakePolicy& make_policy) {
  gpu::Process made = device_.prepare(process(spec_.streams()));
  const DispatcherCosts costs = dispatcher_costs(spec_.system, spec_.device.host);
  auto dispatcher = std::make_unique<Dispatcher>(
      spec_.system, make_policy, spec_.device.sm, costs, *made.port, std::move(made.streams),
      add_client(client_spec(spec_, jobs_.size())));
  for (std::size_t m = 0; m < spec_.models.size(); ++m) {
    dispatcher->set_model(static_cast<std::int32_t>(m), spec_.models[m]);
  }
  servers_.push_back(std::move(dispatcher));
}

void Serving::add_processes() {
  for (std::size_t m = 0; m < spec_.models.size(); ++m) {
    request::ClientSpec client = client_spec(spec_, jobs_.size());
    std::erase_if(client.jobs, [&](std::int32_t job) {
      return jobs_.model[job] != static_cast<std::int32_t>(m);
    });
    if (client.jobs.empty()) continue;
    client.cap = spec_.instances[m];
    add_direct(std::move(client), spec_.instances[m]);
  }
}

void Serving::add_direct(request::ClientSpec client, std::int64_t streams) {
  gpu::ProcessSpec wanted = process(streams);
  wanted.issuing_threads =
      spec_.system.thread_per_instance()
          ? std::accumulate(spec_.instances.begin(), spec_.instances.end(), 0)
          : 1;
  gpu::Process made = device_.prepare(wanted);
  servers_.push_back(std::make_unique<DirectSubmission>(
      spec_.system, spec_.models, spec_.instances, *made.port, std::move(made.issuing),
      std::move(made.streams), add_client(std::move(client))));
}

request::TraceClient& Serving::add_client(request::ClientSpec client) {
  clients_.push_back(std::make_unique<request::TraceClient>(std::move(client), jobs_));
  return *clients_.back();
}

std::vector<Server*> Serving::servers() const {
  std::vector<Server*> all;
  for (const auto& server : servers_) all.push_back(server.get());
  return all;
}

ServerCounters Serving::counters() const {
  ServerCounters sum;
  for (const auto& server : servers_) {
    const ServerCounters one = server->counters();
    sum.dispatches += one.dispatches;
    sum.extra_kernels += one.extra_kernels;
    sum.cpu_us += one.cpu_us;
  }
  return sum;
}

void install_models(const RunSpec& spec, gpu::Device& device) {
  for (std::size_t m = 0; m < spec.models.size(); ++m) {
    gpu::ModelSpec model;
    model.model = spec.models[m];
    model.instances = spec.instances[m];
    device.install(static_cast<std::int32_t>(m), device.load(std::move(model)));
  }
}

void cannot_go_on(const record::Jobs& jobs) {
  const auto& ends = jobs.finished_ns;
  throw Error("the run cannot go on: " +
              std::to_string(std::count(ends.begin(), ends.end(), TimeNs{-1})) +
              " jobs wait, and neither the policy nor the admission lets one go");
}

}  // namespace paella::engine
