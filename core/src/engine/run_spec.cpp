#include "paella/engine/simulate.hpp"

#include <numeric>

#include "paella/error.hpp"

namespace paella::engine {

ClientSpec client_spec(const SimulationSpec& spec) {
  ClientSpec client;
  client.jobs.resize(spec.job_models.size());
  std::iota(client.jobs.begin(), client.jobs.end(), 0);
  client.instances = spec.instances;
  client.cap = spec.cap;
  client.warm_up = spec.system.warm_up;
  client.closed_loop = spec.closed_loop;
  client.think_ns = spec.think_ns;
  return client;
}

void check(const SimulationSpec& spec) {
  const SystemSpec& system = spec.system;
  if (spec.cap < 1) throw Error("the in-flight cap must be at least 1");
  for (const std::int32_t count : spec.instances) {
    if (count < 1) throw Error("every model of a mix needs at least one instance");
  }
  if (system.streams < 1 || system.hardware_queues < 1) {
    throw Error("a system needs at least one stream and one hardware queue");
  }
  if (system.dispatcher && system.stream_owner == StreamOwner::kJob &&
      system.unit.kind != UnitOfDispatch::Kind::kJob && system.streams < spec.cap) {
    throw Error("jobs that keep their stream between units need a stream each: " +
                std::to_string(system.streams) + " streams for " + std::to_string(spec.cap) +
                " jobs in flight");
  }
}

}  // namespace paella::engine
