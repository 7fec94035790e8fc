#pragma once

#include <cstdint>

#include "paella/time.hpp"

namespace paella::engine {

struct ServerCounters {
  std::int64_t dispatches = 0;
  std::int64_t extra_kernels = 0;
  double cpu_us = 0;  // of the dispatcher or of the issuing threads
};

// One process that serves: what its threads do next, and when.
class Server {
 public:
  virtual ~Server() = default;
  // When step() has something to do, unless an event of the device comes first.
  virtual TimeNs wake_ns() const = 0;
  // Whether anything came of it: an event, a request or a submission.
  virtual bool step() = 0;
  virtual bool done() const = 0;
  // When its trace began, on the engine's clock; known when done.
  virtual TimeNs start_ns() const = 0;
  virtual ServerCounters counters() const = 0;
};

}  // namespace paella::engine
