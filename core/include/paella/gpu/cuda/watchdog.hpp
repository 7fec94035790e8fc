#pragma once

#include "paella/gpu/cuda/cuda_port.hpp"

namespace paella::gpu::cuda {

// A GPU that fails tells nobody who does not ask; one that hangs does not even answer.
class Watchdog {
 public:
  explicit Watchdog(double patience_s)
      : patience_ns_(static_cast<TimeNs>(patience_s * 1e9)) {}

  // While units are in flight, once a turn. Error if the GPU has failed, or none has ended for long.
  void look(const CudaDevice& device, const CudaPort& port);

 private:
  TimeNs patience_ns_;
  TimeNs looked_ns_ = 0;
};

}  // namespace paella::gpu::cuda
