#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paella/record/jobs.hpp"
#include "paella/request/trace_client.hpp"
#include "paella/baselines/triton_client/messages.hpp"

namespace paella::triton {

struct LoadOptions {
  int port = 0;          // of the server's gRPC, on 127.0.0.1
  int connections = 4;
  bool in_band = false;  // tensors in the requests; else in shared memory
  bool spin = false;     // never sleep: for a thread with a core of its own
  int cpu = -1;          // of the calling thread; -1 is any
  std::uint64_t seed = 1;      // of the inputs
  double watchdog_s = 20;      // without any answer, while requests are in flight
  // Outputs of every instance of every model, one behind the other; empty: those of a model that
  // repeats its input.
  std::vector<std::string> expected;
};

struct LoadResult {
  record::Jobs jobs;
  TimeNs elapsed_ns = 0;
  double cpu_us = 0;  // of the client's thread, while the trace lasted
  double own_us = 0;  // of it in turns of its loop that sent or received something
  std::int64_t outputs_checked = 0;
  std::vector<TimeNs> ended_ns;  // of each job in the backend, which began with it at `started_ns`
  TimeNs gpu_late_ns = 0;  // that a simulated GPU was behind the wall clock, at most
  // From when a request that found the client and an instance free was due, until it was sent.
  std::vector<double> late_us;
};

// Sends the requests of `jobs` to a Triton server when they are due, and waits for all answers.
// Before, every instance is used once. Times are CLOCK_MONOTONIC's from the start of the trace.
// Throws Error if the server ends, refuses a request, falls silent, or gives a wrong output.
LoadResult load(const request::ClientSpec& client, record::Jobs jobs,
                const std::vector<ModelTensors>& models, const LoadOptions& options);

}  // namespace paella::triton
