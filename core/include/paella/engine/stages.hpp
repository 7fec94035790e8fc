#pragma once

#include <cstdint>
#include <vector>

#include "paella/engine/system.hpp"
#include "paella/gpu/device.hpp"
#include "paella/plan/model.hpp"
#include "paella/sched/admission.hpp"

namespace paella::engine {

// One unit of dispatch of a model.
struct Stage {
  bool copy_in = false;
  bool copy_out = false;
  std::int32_t first_kernel = 0;
  std::int32_t last_kernel = 0;
  double alone_us = 0;   // its kernels, by the profile
  sched::Demand demand;  // of its largest kernel
};

// Cuts a model into units. Kernel by kernel, copies are units of their own, as in the paper; longer
// units take the copies along.
std::vector<Stage> cut(const plan::Model& model, const UnitOfDispatch& unit);

// What a device is given of a job's stage, but for the job.
gpu::WorkUnit unit_of(const Stage& stage, const SystemSpec& system);
// All that a job of the model submits to a device.
std::vector<gpu::WorkUnit> units_of(const plan::Model& model, const SystemSpec& system);

}  // namespace paella::engine
