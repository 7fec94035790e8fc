#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "paella/request/requests.hpp"
#include "paella/record/jobs.hpp"

namespace paella::request {

struct ClientSpec {
  std::vector<std::int32_t> jobs;       // rows of the run's jobs, in the order of their due times
  std::vector<std::int32_t> instances;  // of each model
  std::int64_t cap = 0;                 // jobs in flight, those that wait for an instance included
  bool warm_up = false;                 // all instances once, at the same time, before the trace
  std::int32_t closed_loop = 0;         // > 0: so many users, each waiting for its last answer
  TimeNs think_ns = 0;                  // of such a user, between answer and next request
};

// The requests of one client process. A request that is due waits at the client while the cap is
// reached (and so do all behind it) or its model has no free instance.
class TraceClient : public Requests {
 public:
  TraceClient(ClientSpec spec, record::Jobs& jobs);

  TimeNs next_due_ns() const override;
  bool take(TimeNs now, Request& request) override;
  void submitted(const Request& request, TimeNs now) override;
  void finished(const Request& request, TimeNs started_ns, TimeNs answered_ns) override;
  TimeNs start_ns() const override { return start_ns_; }
  bool done() const override { return !warming_ && completed_ == spec_.jobs.size(); }

 private:
  void begin_trace(TimeNs now);
  void receive(TimeNs now);
  void admit(TimeNs now);

  struct Answer {
    TimeNs at_ns;
    std::int32_t model;
  };
  ClientSpec spec_;
  record::Jobs& jobs_;
  std::vector<Request> warm_up_;
  std::deque<TimeNs> users_;  // closed loop: when each idle user sends its next request
  std::size_t next_ = 0;      // of warm_up_ or of spec_.jobs
  std::size_t completed_ = 0;
  std::int64_t in_flight_ = 0;
  bool warming_;
  TimeNs start_ns_ = 0;  // of the trace, on the engine's clock
  std::vector<std::int32_t> free_instances_;
  std::vector<std::deque<Request>> waiting_;  // for an instance of the model
  std::deque<Request> ready_;
  std::deque<Answer> answers_;  // on their way
};

}  // namespace paella::request
