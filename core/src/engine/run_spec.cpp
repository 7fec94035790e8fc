#include "paella/engine/run_spec.hpp"

#include <cmath>
#include <numeric>
#include <string>

#include "paella/error.hpp"

namespace paella::engine {
namespace {

// 104 days, up to which a double holds every nanosecond: clocks of host threads are doubles.
constexpr TimeNs kLastDueNs = TimeNs{1} << 53;

JobList generated(const workload::Arrivals& arrivals) {
  workload::Trace trace = workload::generate(arrivals);
  JobList jobs{std::move(trace.model), {}};
  jobs.due_ns.reserve(trace.due_us.size());
  for (const double due_us : trace.due_us) {
    jobs.due_ns.push_back(due_us * 1e3 < static_cast<double>(kLastDueNs) ? to_ns(due_us) : kNever);
  }
  return jobs;
}

}  // namespace

std::int32_t RunSpec::hardware_queues() const {
  const bool mps = system.process_per_model() && system.sharing == Sharing::kMps;
  return system.hardware_queues.value_or(mps ? device.mps_queues : device.hardware_queues);
}

MakePolicy policy_maker(const SystemSpec& system) {
  const spec::Choice choice = system.policy.value_or(spec::Choice{"fifo", {}});
  sched::make_policy(choice.name, choice.options);  // reports a bad option before the run
  return [choice] { return sched::make_policy(choice.name, choice.options); };
}

void check(const RunSpec& spec) {
  const SystemSpec& system = spec.system;
  if (spec.cap < 1) throw Error("the in-flight cap must be at least 1");
  if (spec.instances.size() != spec.models.size()) {
    throw Error("every model of a mix needs its number of instances");
  }
  for (const std::int32_t count : spec.instances) {
    if (count < 1) throw Error("every model of a mix needs at least one instance");
  }
  if (spec.streams() < 1 || spec.hardware_queues() < 1) {
    throw Error("a system needs at least one stream and one hardware queue");
  }
  if (system.has_dispatcher() && system.streams.owner == StreamOwner::kJob &&
      !system.whole_jobs() && spec.streams() < spec.cap) {
    throw Error("jobs that keep their stream between units need a stream each: " +
                std::to_string(spec.streams()) + " streams for " + std::to_string(spec.cap) +
                " jobs in flight");
  }
  if (spec.arrivals.has_value() == spec.jobs.has_value()) {
    throw Error("a run has either arrivals or a list of jobs");
  }
}

record::Jobs jobs_of(const RunSpec& spec) {
  const JobList jobs = spec.jobs ? *spec.jobs : generated(*spec.arrivals);
  if (jobs.model.size() != jobs.due_ns.size()) throw Error("every job needs a model and a due time");
  record::Jobs rows;
  for (std::size_t i = 0; i < jobs.model.size(); ++i) {
    if (jobs.model[i] < 0 || static_cast<std::size_t>(jobs.model[i]) >= spec.models.size()) {
      throw Error("job " + std::to_string(i) + " is of model " + std::to_string(jobs.model[i]) +
                  ", and there are " + std::to_string(spec.models.size()));
    }
    if (jobs.due_ns[i] < 0 || jobs.due_ns[i] > kLastDueNs) {
      throw Error("job " + std::to_string(i) + " is due after more than 104 days");
    }
    rows.add(jobs.model[i], spec.clients ? 0 : jobs.due_ns[i]);
  }
  return rows;
}

request::ClientSpec client_spec(const RunSpec& spec, std::size_t jobs) {
  request::ClientSpec client;
  client.jobs.resize(jobs);
  std::iota(client.jobs.begin(), client.jobs.end(), 0);
  client.instances = spec.instances;
  client.cap = spec.cap;
  client.warm_up = spec.system.warm_up == WarmUp::kInstances;
  client.closed_loop = spec.clients.value_or(0);
  client.think_ns = to_ns(spec.think_us);
  return client;
}

}  // namespace paella::engine
