#pragma once

#include <cstdint>

#include "paella/time.hpp"

namespace paella::request {

struct Request {
  std::int32_t job;  // the source's name for it; of a run the row of its jobs, -1 in the warm-up
  std::int32_t model;
  TimeNs due_ns;     // on the engine's clock
  // Host memory of the client's, which the GPU can read and write; null: an instance's own.
  const void* input = nullptr;
  void* output = nullptr;
};

// Where a server's requests come from and its answers go: the trace of a run, or processes that
// have connected. Used by the serving thread alone.
class Requests {
 public:
  virtual ~Requests() = default;

  // Earliest time at which take() may give something before another job finishes.
  virtual TimeNs next_due_ns() const = 0;
  // The next request to be submitted by `now`.
  virtual bool take(TimeNs now, Request& request) = 0;
  virtual void submitted(const Request& request, TimeNs now) = 0;
  // The answer reaches the client at `answered_ns`: not before an earlier one. `started_ns` is
  // that of the first kernel, -1 without kernels.
  virtual void finished(const Request& request, TimeNs started_ns, TimeNs answered_ns) = 0;
  // The job's last unit is on the GPU, and will end about then if nothing slows it.
  virtual void almost_finished(const Request& request, TimeNs expected_end_ns) {
    (void)request, (void)expected_end_ns;
  }
  virtual bool done() const = 0;
  // When the requests began, on the engine's clock; known when done.
  virtual TimeNs start_ns() const = 0;
};

}  // namespace paella::request
