#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paella/client.hpp"
#include "paella/request/trace_client.hpp"

namespace paella::ipc {

// What one client process asks of a server: the trace of a run, with its cap and instances.
struct LoadSpec {
  std::string server;
  ClientOptions options;
  int cpu = -1;          // of the sending thread; -1 is any
  int receiver_cpu = -1; // of the receiving one, where there is one
  std::vector<std::string> models;  // by the numbers that jobs name
  request::ClientSpec client;
  double patience_s = 20;  // for the next answer, while any is outstanding
};

struct LoadResult {
  std::int64_t outputs_checked = 0;
  std::int64_t without_output = 0;  // answers of a server that computes none
  double cpu_us = 0;                // of this client's threads
  TimeNs longest_turn_ns = 0;       // of the sending loop
};

// Sends the requests of `jobs` when they are due, and notes when their answers came, in CLOCK_MONOTONIC
// from the trace's start. Every instance has memory of its own, shared with the server; all instances
// of a model have the same input, and their outputs are compared, bit by bit. ClientError if the server goes, or
// refuses; Error if an output differs.
LoadResult load(const LoadSpec& spec, record::Jobs& jobs);

}  // namespace paella::ipc
