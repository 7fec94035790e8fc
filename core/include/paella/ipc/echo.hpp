#pragma once

#include "paella/ipc/sessions.hpp"

namespace paella::ipc {

struct EchoOptions {
  TimeNs service_ns = 0;  // from taken to answered
  TimeNs idle_ns = 0;     // > 0: sleep after so long without anything to do
  bool copy = false;      // the input's first bytes to the output
  int cpu = -1;           // of the calling thread, which serves
};

// Serves until the sessions are done, without a device: for tests and benchmarks of what is between
// a client and a device.
void echo(Sessions& sessions, const EchoOptions& options);

}  // namespace paella::ipc
