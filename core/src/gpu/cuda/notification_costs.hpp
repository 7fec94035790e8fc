#pragma once

#include "probe_kernels.hpp"
#include "paella/gpu/cuda/probe.hpp"

namespace paella::gpu::cuda {

// Every way of being told that a kernel is done, seen by the issuing thread and from another core.
std::vector<NotificationCost> notification_costs(const ProbeKernels& kernels, Context context,
                                                 int repetitions);

}  // namespace paella::gpu::cuda
