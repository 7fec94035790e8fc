#include "paella/engine/direct.hpp"

#include <algorithm>

#include "paella/engine/stages.hpp"

namespace paella::engine {

DirectSubmission::DirectSubmission(const SystemSpec& system,
                                   const std::vector<plan::Model>& models,
                                   const std::vector<std::int32_t>& instances, gpu::Port& watcher,
                                   std::vector<gpu::Port*> threads,
                                   std::vector<gpu::StreamId> streams, request::Requests& requests)
    : system_(system),
      watcher_(watcher),
      requests_(requests),
      free_streams_(std::move(streams)) {
  std::reverse(free_streams_.begin(), free_streams_.end());
  for (gpu::Port* port : threads) threads_.push_back({port, {}});
  for (const plan::Model& model : models) {
    jobs_of_models_.push_back(units_of(model, system).front());
  }
  if (system.thread_per_instance()) {
    std::int32_t thread = 0;
    for (const std::int32_t count : instances) {
      auto& free = free_threads_.emplace_back();
      for (std::int32_t i = 0; i < count; ++i) free.push_back(thread++);
    }
  }
}

TimeNs DirectSubmission::next_issue_ns(const Thread& thread) const {
  return std::max(thread.port->now(), jobs_[thread.jobs.front()].ready_ns);
}

TimeNs DirectSubmission::wake_ns() const {
  TimeNs wake = watcher_.next_event_ns();
  if (!free_streams_.empty()) wake = std::min(wake, requests_.next_due_ns());
  wake = std::max(wake, watcher_.now());
  for (const std::int32_t t : busy_threads_) wake = std::min(wake, next_issue_ns(threads_[t]));
  return wake;
}

bool DirectSubmission::step() {
  const TimeNs now = wake_ns();
  const bool heard = watch(now);
  const bool took = take_requests(now);
  bool issued = false;
  for (const std::int32_t t : busy_threads_) {
    if (next_issue_ns(threads_[t]) > now) continue;
    issue(threads_[t]);
    issued = true;
  }
  std::erase_if(busy_threads_, [&](std::int32_t t) { return threads_[t].jobs.empty(); });
  return heard || took || issued;
}

bool DirectSubmission::take_requests(TimeNs now) {
  bool any = false;
  request::Request request;
  while (!free_streams_.empty() && requests_.take(now, request)) {
    const std::int32_t slot = jobs_.take();
    std::int32_t thread = 0;
    if (system_.thread_per_instance()) {
      thread = free_threads_[request.model].back();
      free_threads_[request.model].pop_back();
    }
    jobs_[slot] = {.request = request,
                   .ready_ns = now + to_ns(system_.request_us.latency),
                   .thread = thread,
                   .stream = free_streams_.back()};
    free_streams_.pop_back();
    if (threads_[thread].jobs.empty()) busy_threads_.push_back(thread);
    threads_[thread].jobs.push_back(slot);
    requests_.submitted(request, now);
    any = true;
  }
  return any;
}

void DirectSubmission::issue(Thread& thread) {
  const std::int32_t slot = thread.jobs.front();
  const Job& job = jobs_[slot];
  thread.port->idle_until(next_issue_ns(thread));
  thread.jobs.pop_front();
  thread.port->spend(system_.request_us.cpu);
  gpu::WorkUnit unit = jobs_of_models_[job.request.model];
  unit.id = slot;
  unit.job = job.request.job;
  unit.model = job.request.model;
  thread.port->submit(job.stream, unit);
  ++issued_;
}

bool DirectSubmission::watch(TimeNs now) {
  if (watcher_.next_event_ns() > now) return false;
  watcher_.idle_until(now);
  events_.clear();
  watcher_.poll(events_);
  for (const gpu::Event& event : events_) {
    if (!event.done) continue;
    const Job& job = jobs_[event.unit];
    free_streams_.push_back(job.stream);
    if (system_.thread_per_instance()) free_threads_[job.request.model].push_back(job.thread);
    const TimeNs at = event.at_ns < 0 ? now : event.at_ns;
    requests_.finished(job.request, event.started_ns, at + to_ns(system_.request_us.response));
    jobs_.give_back(event.unit);
  }
  return !events_.empty();
}

ServerCounters DirectSubmission::counters() const {
  ServerCounters counters;
  counters.dispatches = issued_;
  for (const Thread& thread : threads_) counters.cpu_us += thread.port->busy_us();
  return counters;
}

}  // namespace paella::engine
