#include "paella/gpu/cuda/watchdog.hpp"

#include <algorithm>

#include "paella/error.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr TimeNs kHealthCheckNs = 100'000'000;  // without any event

}  // namespace

void Watchdog::look(const CudaDevice& device, const CudaPort& port) {
  const TimeNs now = port.now();
  if (now - std::max(port.last_event_ns(), looked_ns_) < kHealthCheckNs) return;
  looked_ns_ = now;
  const InFlight& unit = port.oldest();
  device.check_stream(unit.stream);
  if (now - port.last_event_ns() < patience_ns_) return;
  throw Error("the GPU has finished nothing for " + std::to_string(patience_ns_ / 1'000'000'000) +
              " s: kernels " + std::to_string(unit.first_kernel) + " to " +
              std::to_string(unit.last_kernel - 1) + " of " + device.name(unit.model) +
              " hang in stream " + std::to_string(unit.stream));
}

}  // namespace paella::gpu::cuda
