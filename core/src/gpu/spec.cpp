#include "paella/gpu/spec.hpp"

namespace paella::gpu {

double HostCosts::issue_at(int queues) const {
  const double at = queues;
  if (issue_us.empty()) return 0;
  if (at <= issue_us.front().first) return issue_us.front().second;
  for (std::size_t i = 1; i < issue_us.size(); ++i) {
    const auto [x0, y0] = issue_us[i - 1];
    const auto [x1, y1] = issue_us[i];
    if (at <= x1) return y0 + (y1 - y0) * (at - x0) / (x1 - x0);
  }
  return issue_us.back().second;
}

}  // namespace paella::gpu
