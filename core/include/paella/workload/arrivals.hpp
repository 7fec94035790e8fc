#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "paella/spec/fields.hpp"
#include "paella/workload/trace.hpp"

namespace paella::workload {

enum class Process { kLognormal, kExponential, kBatch };

constexpr auto names(Process) {
  return std::array<std::string_view, 3>{"lognormal", "exponential", "batch"};
}
// Throws Error for a name that is none of these.
Process parse_process(const std::string& name);

struct Arrivals {
  std::vector<double> proportions;  // of the mix's models; they sum to one
  Process process = Process::kLognormal;
  double iat_us = 1000;  // mean inter-arrival time; a batch is due at time 0 whatever it is
  double sigma = 2;      // of the log-normal process
  std::int64_t jobs = 3000;
  std::int64_t seed = 1;
  bool rescale = false;  // to the nominal rate, see rescaled(); not where all are due at once
};

template <spec::Of<Arrivals> Self>
void fields(Self& self, auto&& field) {
  field("proportions", self.proportions);
  field("process", self.process);
  field("iat_us", self.iat_us);
  field("sigma", self.sigma);
  field("jobs", self.jobs);
  field("seed", self.seed);
  field("rescale", self.rescale);
}

// The same trace for the same arguments. Log-normal arrivals are bit for bit the published
// artifact's; a batch is its inter-arrival time 0, with the log-normal process's order of models.
// Throws Error for arguments out of range.
Trace generate(const Arrivals& arrivals);

}  // namespace paella::workload
