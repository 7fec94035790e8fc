#include "paella/request/trace_client.hpp"

#include <algorithm>

namespace paella::request {
namespace {

constexpr TimeNs kAfterWarmUpNs = 1'000'000;

}  // namespace

TraceClient::TraceClient(ClientSpec spec, record::Jobs& jobs)
    : spec_(std::move(spec)),
      jobs_(jobs),
      warming_(spec_.warm_up),
      free_instances_(spec_.instances),
      waiting_(spec_.instances.size()) {
  if (warming_) {
    for (std::size_t m = 0; m < spec_.instances.size(); ++m) {
      warm_up_.insert(warm_up_.end(), spec_.instances[m], Request{-1, static_cast<std::int32_t>(m), 0});
    }
  } else {
    begin_trace(0);
  }
}

void TraceClient::begin_trace(TimeNs now) {
  warming_ = false;
  start_ns_ = now;
  next_ = completed_ = 0;
  users_.assign(spec_.closed_loop, now);
}

// Moves requests that are due past the cap, and on to their models' instances.
void TraceClient::admit(TimeNs now) {
  const std::size_t count = warming_ ? warm_up_.size() : spec_.jobs.size();
  while (next_ < count && in_flight_ < spec_.cap) {
    Request request;
    if (warming_) {
      request = warm_up_[next_];
    } else {
      const std::int32_t job = spec_.jobs[next_];
      if (spec_.closed_loop > 0) {
        if (users_.empty() || users_.front() > now) return;
        jobs_.due_ns[job] = users_.front() - start_ns_;
        users_.pop_front();
      }
      request = {job, jobs_.model[job], start_ns_ + jobs_.due_ns[job]};
    }
    if (request.due_ns > now) return;
    ++next_;
    ++in_flight_;
    if (free_instances_[request.model] > 0) {
      --free_instances_[request.model];
      ready_.push_back(request);
    } else {
      waiting_[request.model].push_back(request);
    }
  }
}

TimeNs TraceClient::next_due_ns() const {
  if (!ready_.empty()) return ready_.front().due_ns;
  const TimeNs answer = answers_.empty() ? kNever : answers_.front().at_ns;
  if (in_flight_ >= spec_.cap) return answer;
  if (warming_) return next_ < warm_up_.size() ? 0 : answer;
  if (next_ >= spec_.jobs.size()) return answer;
  if (spec_.closed_loop > 0) return users_.empty() ? answer : std::min(answer, users_.front());
  return std::min(answer, start_ns_ + jobs_.due_ns[spec_.jobs[next_]]);
}

bool TraceClient::take(TimeNs now, Request& request) {
  receive(now);
  admit(now);
  if (ready_.empty()) return false;
  request = ready_.front();
  ready_.pop_front();
  return true;
}

void TraceClient::submitted(const Request& request, TimeNs now) {
  if (request.job >= 0) jobs_.submitted_ns[request.job] = now - start_ns_;
}

// An answer frees its place in flight and its model's instance, for the next that waits.
void TraceClient::receive(TimeNs now) {
  for (; !answers_.empty() && answers_.front().at_ns <= now; answers_.pop_front()) {
    const std::int32_t model = answers_.front().model;
    --in_flight_;
    if (waiting_[model].empty()) {
      ++free_instances_[model];
    } else {
      ready_.push_back(waiting_[model].front());
      waiting_[model].pop_front();
    }
  }
}

void TraceClient::finished(const Request& request, TimeNs started_ns, TimeNs answered_ns) {
  ++completed_;
  answers_.push_back({answered_ns, request.model});
  if (request.job >= 0) {
    jobs_.started_ns[request.job] = started_ns < 0 ? -1 : started_ns - start_ns_;
    jobs_.finished_ns[request.job] = answered_ns - start_ns_;
    if (spec_.closed_loop > 0) users_.push_back(answered_ns + spec_.think_ns);
  } else if (completed_ == warm_up_.size()) {
    begin_trace(answered_ns + kAfterWarmUpNs);
  }
}

}  // namespace paella::request
