#include "paella/workload/arrivals.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "paella/error.hpp"
#include "paella/workload/random.hpp"

namespace paella::workload {
namespace {

std::string text(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", value);
  return buffer;
}

void check_not_negative(const std::string& what, double value) {
  if (!std::isfinite(value) || value < 0) {
    throw Error(what + " is " + text(value) + ", it must be a finite number that is not negative");
  }
}

void check(const Arrivals& arrivals) {
  if (arrivals.proportions.empty()) throw Error("a mix needs at least one model");
  double sum = 0;
  for (std::size_t i = 0; i < arrivals.proportions.size(); ++i) {
    check_not_negative("the proportion of model " + std::to_string(i), arrivals.proportions[i]);
    sum += arrivals.proportions[i];
  }
  if (std::abs(sum - 1) > 1e-6) {
    throw Error("the proportions of a mix must sum to 1, these sum to " + text(sum));
  }
  check_not_negative("the mean inter-arrival time", arrivals.iat_us);
  check_not_negative("sigma", arrivals.sigma);
  constexpr std::int64_t most_jobs = std::numeric_limits<std::int32_t>::max();
  if (arrivals.jobs < 1 || arrivals.jobs > most_jobs) {
    throw Error("the number of jobs is " + std::to_string(arrivals.jobs) + ", it must be from 1 to " +
                std::to_string(most_jobs));
  }
  constexpr std::int64_t last_seed = std::numeric_limits<std::uint32_t>::max();
  if (arrivals.seed < 0 || arrivals.seed > last_seed) {
    throw Error("the seed is " + std::to_string(arrivals.seed) + ", it must be from 0 to " +
                std::to_string(last_seed));
  }
}

// In single precision, like the number that is looked up in them.
std::vector<float> cumulative(const std::vector<double>& proportions) {
  std::vector<float> sums;
  float sum = 0;
  for (const double proportion : proportions) {
    sum += static_cast<float>(proportion);
    sums.push_back(sum);
  }
  return sums;
}

}  // namespace

Process parse_process(const std::string& name) {
  constexpr auto known = names(Process{});
  const auto at = std::find(known.begin(), known.end(), name);
  if (at != known.end()) return static_cast<Process>(at - known.begin());
  throw Error("unknown arrival process '" + name + "', known are lognormal, exponential, batch");
}

Trace generate(const Arrivals& arrivals) {
  check(arrivals);
  const std::vector<float> sums = cumulative(arrivals.proportions);
  const double iat_us = arrivals.process == Process::kBatch ? 0 : arrivals.iat_us;
  const double mu = std::log(iat_us) - arrivals.sigma * arrivals.sigma / 2;

  Random random(static_cast<std::uint32_t>(arrivals.seed));
  Trace trace;
  trace.model.reserve(static_cast<std::size_t>(arrivals.jobs));
  trace.due_us.reserve(static_cast<std::size_t>(arrivals.jobs));
  double now_us = 0;
  for (std::int64_t job = 0; job < arrivals.jobs; ++job) {
    // Rounding may leave the last sum below 1.
    const float u = std::min(random.uniform_float(), sums.back());
    const auto model = std::lower_bound(sums.begin(), sums.end(), u) - sums.begin();
    trace.model.push_back(static_cast<std::int32_t>(model));
    trace.due_us.push_back(now_us);
    now_us += arrivals.process == Process::kExponential
                  ? -iat_us * std::log1p(-random.uniform())
                  : std::exp(arrivals.sigma * random.normal() + mu);
  }
  if (!std::isfinite(trace.due_us.back())) {
    throw Error("the due times overflow with a mean inter-arrival time of " + text(iat_us) +
                " and a sigma of " + text(arrivals.sigma));
  }
  const bool spread = trace.due_us.back() > trace.due_us.front();
  return arrivals.rescale && spread ? rescaled(std::move(trace), arrivals.iat_us) : trace;
}

}  // namespace paella::workload
