#include "paella/engine/direct.hpp"

#include <algorithm>

namespace paella::engine {
namespace {

constexpr TimeNs to_ns(double us) { return static_cast<TimeNs>(us * 1e3); }

}  // namespace

DirectSubmission::DirectSubmission(const SystemSpec& system,
                                   const std::vector<plan::Model>& models,
                                   const std::vector<std::int32_t>& instances, gpu::Port& watcher,
                                   std::vector<gpu::Port*> threads,
                                   std::vector<gpu::StreamId> streams, Requests& requests)
    : system_(system),
      models_(models),
      watcher_(watcher),
      requests_(requests),
      free_streams_(std::move(streams)) {
  std::reverse(free_streams_.begin(), free_streams_.end());
  for (gpu::Port* port : threads) threads_.push_back({port, {}});
  if (system.thread_per_instance) {
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

void DirectSubmission::step() {
  const TimeNs now = wake_ns();
  watch(now);
  take_requests(now);
  for (const std::int32_t t : busy_threads_) {
    if (next_issue_ns(threads_[t]) <= now) issue(threads_[t]);
  }
  std::erase_if(busy_threads_, [&](std::int32_t t) { return threads_[t].jobs.empty(); });
}

void DirectSubmission::take_requests(TimeNs now) {
  Request request;
  while (!free_streams_.empty() && requests_.take(now, request)) {
    const std::int32_t slot = jobs_.take();
    std::int32_t thread = 0;
    if (system_.thread_per_instance) {
      thread = free_threads_[request.model].back();
      free_threads_[request.model].pop_back();
    }
    jobs_[slot] = {request, now + to_ns(system_.request_latency_us), thread, free_streams_.back()};
    free_streams_.pop_back();
    if (threads_[thread].jobs.empty()) busy_threads_.push_back(thread);
    threads_[thread].jobs.push_back(slot);
    requests_.submitted(request, now);
  }
}

void DirectSubmission::issue(Thread& thread) {
  const std::int32_t slot = thread.jobs.front();
  const Job& job = jobs_[slot];
  thread.port->idle_until(next_issue_ns(thread));
  thread.jobs.pop_front();
  thread.port->spend(system_.request_cpu_us);
  const auto kernels = static_cast<std::int32_t>(models_[job.request.model].kernels.size());
  thread.port->submit(job.stream, {slot, job.request.job, job.request.model, 0, kernels, true,
                                   true, system_.graphs, system_.notify,
                                   system_.notify_call});
  ++issued_;
}

void DirectSubmission::watch(TimeNs now) {
  if (watcher_.next_event_ns() > now) return;
  watcher_.idle_until(now);
  events_.clear();
  watcher_.poll(events_);
  for (const gpu::Event& event : events_) {
    if (!event.done) continue;
    const Job& job = jobs_[event.unit];
    free_streams_.push_back(job.stream);
    if (system_.thread_per_instance) free_threads_[job.request.model].push_back(job.thread);
    const TimeNs at = event.at_ns < 0 ? now : event.at_ns;
    requests_.finished(job.request, event.started_ns, at + to_ns(system_.response_latency_us));
    jobs_.give_back(event.unit);
  }
}

ServerCounters DirectSubmission::counters() const {
  ServerCounters counters;
  counters.dispatches = issued_;
  for (const Thread& thread : threads_) counters.cpu_us += thread.port->busy_us();
  return counters;
}

}  // namespace paella::engine
