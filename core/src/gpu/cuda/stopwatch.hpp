#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "paella/error.hpp"
#include "paella/gpu/cuda/probe.hpp"

namespace paella::gpu::cuda {

inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class Stopwatch {
 public:
  double us() const { return static_cast<double>(now_ns() - start_) / 1000; }

 private:
  std::int64_t start_ = now_ns();
};

// sorted[floor(n * q)], as everywhere in this project.
inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const auto at = static_cast<std::size_t>(static_cast<double>(values.size()) * q);
  return values[std::min(at, values.size() - 1)];
}

inline double median(const std::vector<double>& values) { return quantile(values, 0.5); }

inline Spread spread(const std::vector<double>& values) {
  return {median(values), quantile(values, 0.99)};
}

// Calls `ready` until it says yes; Error after five seconds.
template <class Ready>
void wait_until(Ready ready, const std::string& what) {
  const Stopwatch watch;
  for (unsigned polls = 1; !ready(); ++polls) {
    if (polls % 1024 == 0 && watch.us() > 5e6) {
      throw Error("the GPU did not answer within 5 s: " + what);
    }
  }
}

}  // namespace paella::gpu::cuda
