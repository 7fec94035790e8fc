#include "paella/engine/client.hpp"

#include <algorithm>

namespace paella::engine {
namespace {

constexpr TimeNs kAfterWarmUpNs = 1'000'000;

}  // namespace

Client::Client(ClientSpec spec, record::Jobs& jobs)
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

void Client::begin_trace(TimeNs now) {
  warming_ = false;
  start_ns_ = now;
  next_ = completed_ = 0;
  users_.assign(spec_.closed_loop, now);
}

// Moves requests that are due past the cap, and on to their models' instances.
void Client::admit(TimeNs now) {
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

TimeNs Client::next_due_ns() const {
  if (!ready_.empty()) return ready_.front().due_ns;
  if (in_flight_ >= spec_.cap) return kNever;
  if (warming_) return next_ < warm_up_.size() ? 0 : kNever;
  if (next_ >= spec_.jobs.size()) return kNever;
  if (spec_.closed_loop > 0) return users_.empty() ? kNever : users_.front();
  return start_ns_ + jobs_.due_ns[spec_.jobs[next_]];
}

bool Client::take(TimeNs now, Request& request) {
  admit(now);
  if (ready_.empty()) return false;
  request = ready_.front();
  ready_.pop_front();
  return true;
}

void Client::submitted(const Request& request, TimeNs now) {
  if (request.job >= 0) jobs_.submitted_ns[request.job] = now - start_ns_;
}

void Client::finished(const Request& request, TimeNs started_ns, TimeNs now) {
  --in_flight_;
  ++completed_;
  auto& waiting = waiting_[request.model];
  if (waiting.empty()) {
    ++free_instances_[request.model];
  } else {
    ready_.push_back(waiting.front());
    waiting.pop_front();
  }
  if (request.job >= 0) {
    jobs_.started_ns[request.job] = started_ns < 0 ? -1 : started_ns - start_ns_;
    jobs_.finished_ns[request.job] = now - start_ns_;
    if (spec_.closed_loop > 0) users_.push_back(now + spec_.think_ns);
  } else if (completed_ == warm_up_.size()) {
    begin_trace(now + kAfterWarmUpNs);
  }
}

}  // namespace paella::engine
