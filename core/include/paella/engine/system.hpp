#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "paella/gpu/device.hpp"
#include "paella/sched/admission.hpp"
#include "paella/sched/policy.hpp"

namespace paella::engine {

// How much of a job is dispatched at a time.
struct UnitOfDispatch {
  enum class Kind { kKernel, kKernels, kTime, kJob };
  Kind kind = Kind::kKernel;
  std::int32_t kernels = 1;  // kKernels
  double us = 0;             // kTime: about so long, by the profile
};

enum class StreamOwner {
  kJob,   // from the job's first to its last operation
  kUnit,  // while the unit is on the GPU
};

// A way to serve; config/systems.yaml describes each field.
struct SystemSpec {
  bool dispatcher = true;
  bool process_per_model = false;
  bool thread_per_instance = false;
  std::int32_t streams = 1;
  std::int32_t hardware_queues = 32;
  StreamOwner stream_owner = StreamOwner::kUnit;
  bool graphs = false;
  gpu::Notify notify = gpu::Notify::kUnit;
  std::int32_t notify_blocks = 16;
  bool notify_call = true;  // see gpu::WorkUnit

  UnitOfDispatch unit;
  bool learned_estimates = false;
  bool warm_up = false;
  double slo_factor = 5;  // deadline = due + slo_factor * time alone
  std::function<std::unique_ptr<sched::Policy>()> make_policy;
  std::string admission = "none";
  sched::AdmissionOptions admission_options;

  // The path of a request to a server process and back, with its CPU cost on the issuing thread.
  double request_latency_us = 0;
  double request_cpu_us = 0;
  double response_latency_us = 0;
};

}  // namespace paella::engine
