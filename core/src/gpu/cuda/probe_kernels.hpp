#pragma once

#include "paella/gpu/cuda/handles.hpp"

// The kernels of the probes. All have one block of one thread.
namespace paella::gpu::cuda {

class ProbeKernels {
 public:
  ProbeKernels();
  void empty(Stream stream) const { launch(empty_, stream, nullptr); }
  void spin(Stream stream, std::uint64_t ns) const;
  // Writes `value` at `at`, visible to the host with everything before it.
  void flag(Stream stream, Pointer at, std::uint32_t value) const;
  // Runs until the word at `at` is `value`, and two seconds at most.
  void gate(Stream stream, Pointer at, std::uint32_t value) const;

  static constexpr double kGateLimitUs = 2e6;

 private:
  void launch(Function function, Stream stream, void** parameters) const;
  Function function(const char* name) const;

  OwnedModule module_;
  Function empty_, spin_, flag_, gate_;
};

}  // namespace paella::gpu::cuda
