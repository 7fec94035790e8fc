#pragma once

#include <pybind11/pybind11.h>

#include "paella/gpu/cuda/launch_plan.hpp"

namespace paella::bindings {

// From what paella.hardware.plans.engine_plan returns. `weights` is bytes, or the path of a file of
// them. Optional, for a runner: `chained`, a cubin, with `in_chain`, a truth value for each kernel.
gpu::cuda::LaunchPlan launch_plan(const pybind11::dict& d);

}  // namespace paella::bindings
