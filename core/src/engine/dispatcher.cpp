#include "paella/engine/dispatcher.hpp"

#include <algorithm>
#include <limits>

#include "paella/error.hpp"

namespace paella::engine {

DispatcherCosts dispatcher_costs(const SystemSpec& system, const gpu::HostCosts& host) {
  const bool counts_resources = system.admission.name == "resources";
  return {host.request_us, host.decision_us + (counts_resources ? host.admission_us : 0)};
}

Dispatcher::Dispatcher(const SystemSpec& system, const MakePolicy& make_policy,
                       const plan::SmLimits& sm, DispatcherCosts costs, gpu::Port& port,
                       std::vector<gpu::StreamId> streams, request::Requests& requests)
    : system_(system),
      costs_(costs),
      port_(port),
      requests_(requests),
      policy_(make_policy()),
      admission_(sched::make_admission(system.admission.name, system.admission.options, sm)),
      free_streams_(std::move(streams)) {
  std::reverse(free_streams_.begin(), free_streams_.end());  // the first is taken first
}

void Dispatcher::set_model(std::int32_t index, const plan::Model& model) {
  const auto m = static_cast<std::size_t>(index);
  if (m >= stages_.size()) {
    stages_.resize(m + 1);
    estimate_us_.resize(m + 1);
    alone_us_.resize(m + 1);
  }
  const bool learned = system_.estimates == Estimates::kLearned;
  stages_[m] = cut(model, system_.unit);
  estimate_us_[m].clear();
  alone_us_[m] = 0;
  for (const Stage& stage : stages_[m]) {
    estimate_us_[m].push_back(learned ? 0 : stage.alone_us);
    alone_us_[m] += stage.alone_us;
  }
}

TimeNs Dispatcher::wake_ns() const {
  return std::max(port_.now(), std::min(requests_.next_due_ns(), port_.next_event_ns()));
}

bool Dispatcher::step() {
  port_.idle_until(wake_ns());
  events_.clear();
  port_.poll(events_);
  for (const gpu::Event& event : events_) handle(event);
  bool any = !events_.empty();
  request::Request request;
  while (requests_.take(port_.now(), request)) {
    accept(request);
    any = true;
  }
  dispatch();
  return any;
}

void Dispatcher::accept(const request::Request& request) {
  port_.spend(costs_.request_us);
  requests_.submitted(request, port_.now());
  const std::int32_t slot = jobs_.take();
  Job& job = jobs_[slot];
  job.request = request;
  job.stage = 0;
  job.stream = -1;
  job.started_ns = -1;
  const auto& estimates = estimate_us_[request.model];
  job.remaining_us.resize(estimates.size());
  double sum = 0;
  for (std::size_t s = estimates.size(); s-- > 0;) job.remaining_us[s] = sum += estimates[s];
  job.total_us = sum;
  make_ready(slot);
}

void Dispatcher::make_ready(std::int32_t slot) {
  const Job& job = jobs_[slot];
  const double due_us = to_us(job.request.due_ns);
  policy_->push({slot, job.request.model, job.remaining_us[job.stage], due_us, job.total_us,
                 due_us + system_.slo_factor * alone_us_[job.request.model]});
}

gpu::WorkUnit Dispatcher::work_unit(std::int32_t slot, const Job& job, const Stage& stage) const {
  const request::Request& request = job.request;
  gpu::WorkUnit unit = unit_of(stage, system_);
  unit.id = slot;
  unit.job = request.job;
  unit.model = request.model;
  unit.of_client = request.input || request.output;
  unit.input = request.input;
  unit.output = request.output;
  return unit;
}

// The paper's loop (section 5): the policy's best unit goes out while a stream is free and the
// admission lets it; nothing behind it is tried.
void Dispatcher::dispatch() {
  while (policy_->size() > 0) {
    const std::int32_t slot = policy_->peek();
    Job& job = jobs_[slot];
    const Stage& stage = stages(job)[job.stage];
    if (job.stream < 0 && free_streams_.empty()) return;
    if (!admission_->admits(stage.demand)) return;
    policy_->pop();
    port_.spend(costs_.decision_us);
    if (job.stream < 0) {
      job.stream = free_streams_.back();
      free_streams_.pop_back();
    }
    job.issued_ns = port_.now();
    admission_->issued(slot, stage.demand);
    ++dispatches_;
    port_.submit(job.stream, work_unit(slot, job, stage));
    if (job.stage + 1 == static_cast<std::int32_t>(stages(job).size())) {
      requests_.almost_finished(job.request, port_.now() + to_ns(stage.alone_us));
    }
  }
}

void Dispatcher::handle(const gpu::Event& event) {
  const std::int32_t slot = event.unit;
  Job& job = jobs_[slot];
  if (event.kind == gpu::EventKind::kPlaced) {
    admission_->placed(slot, event.blocks);
    return;
  }
  if (event.blocks > 0) admission_->finished(slot, event.blocks);
  if (!event.done) return;

  admission_->done(slot);
  if (job.started_ns < 0) job.started_ns = event.started_ns;
  if (system_.estimates == Estimates::kLearned) {
    double& estimate = estimate_us_[job.request.model][job.stage];
    estimate = (estimate + to_us(port_.now() - job.issued_ns)) / 2;
  }
  const bool last = ++job.stage == static_cast<std::int32_t>(stages(job).size());
  if (last || system_.streams.owner == StreamOwner::kStage) {
    free_streams_.push_back(job.stream);
    job.stream = -1;
  }
  if (!last) {
    make_ready(slot);
    return;
  }
  requests_.finished(job.request, job.started_ns,
                     port_.now() + to_ns(system_.request_us.response));
  jobs_.give_back(slot);
}

ServerCounters Dispatcher::counters() const {
  return {dispatches_, admission_->extra(), port_.busy_us()};
}

}  // namespace paella::engine
