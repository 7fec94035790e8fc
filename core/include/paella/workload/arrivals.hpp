#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paella/workload/trace.hpp"

namespace paella::workload {

enum class Process { kLognormal, kExponential, kBatch };

// "lognormal", "exponential" or "batch"; throws Error for anything else.
Process parse_process(const std::string& name);

struct Arrivals {
  std::vector<double> proportions;  // of the mix's models; they sum to one
  Process process = Process::kLognormal;
  double iat_us = 1000;  // mean inter-arrival time; a batch is due at time 0 whatever it is
  double sigma = 2;      // of the log-normal process
  std::int64_t jobs = 3000;
  std::int64_t seed = 1;
};

// The same trace for the same arguments. Log-normal arrivals are bit for bit the published
// artifact's; a batch is its inter-arrival time 0, with the log-normal process's order of models.
// Throws Error for arguments out of range.
Trace generate(const Arrivals& arrivals);

}  // namespace paella::workload
