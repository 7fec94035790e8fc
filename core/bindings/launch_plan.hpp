#pragma once

#include <pybind11/pybind11.h>

#include "paella/gpu/cuda/launch_plan.hpp"

namespace paella::bindings {

// Of paella.hardware.plans.engine_plan. `weights` is bytes, or the path of a file of them.
gpu::cuda::LaunchPlan launch_plan(const pybind11::dict& d);

}  // namespace paella::bindings
