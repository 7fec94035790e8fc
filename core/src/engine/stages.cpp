#include "paella/engine/stages.hpp"

namespace paella::engine {

std::vector<Stage> cut(const plan::Model& model, const UnitOfDispatch& unit) {
  using Kind = UnitOfDispatch::Kind;
  const auto kernels = static_cast<std::int32_t>(model.kernels.size());
  std::vector<Stage> stages;
  const auto full = [&](const Stage& stage, double next_us) {
    switch (unit.kind) {
      case Kind::kKernel: return true;
      case Kind::kKernels: return stage.last_kernel - stage.first_kernel >= unit.kernels;
      // Half of the next kernel may go over: units come out about as long as asked for.
      case Kind::kTime: return stage.alone_us + next_us / 2 > unit.us;
      case Kind::kJob: return false;
    }
    return true;
  };
  for (std::int32_t k = 0; k < kernels; ++k) {
    const plan::Kernel& kernel = model.kernels[k];
    const double us = static_cast<double>(kernel.duration_ns) * 1e-3;
    if (stages.empty() || full(stages.back(), us)) {
      Stage stage;
      stage.first_kernel = stage.last_kernel = k;
      stages.push_back(stage);
    }
    Stage& stage = stages.back();
    stage.last_kernel = k + 1;
    stage.alone_us += us;
    const auto threads = [](const sched::Demand& d) { return d.blocks * d.shape.threads; };
    const sched::Demand demand{kernel.shape, kernel.blocks};
    if (threads(demand) > threads(stage.demand)) stage.demand = demand;
  }
  if (unit.kind == Kind::kKernel) {
    Stage copy_in, copy_out;
    copy_in.copy_in = copy_out.copy_out = true;
    stages.insert(stages.begin(), copy_in);
    stages.push_back(copy_out);
  } else {
    stages.front().copy_in = stages.back().copy_out = true;
  }
  return stages;
}

std::vector<gpu::WorkUnit> units_of(const plan::Model& model, const SystemSpec& system) {
  UnitOfDispatch unit = system.unit;
  if (!system.dispatcher) unit.kind = UnitOfDispatch::Kind::kJob;
  std::vector<gpu::WorkUnit> units;
  for (const Stage& stage : cut(model, unit)) {
    gpu::WorkUnit& work = units.emplace_back();
    work.first_kernel = stage.first_kernel;
    work.last_kernel = stage.last_kernel;
    work.copy_in = stage.copy_in;
    work.copy_out = stage.copy_out;
    work.as_graph = system.graphs;
    work.notify = system.notify;
    work.notify_call = system.notify_call;
  }
  return units;
}

}  // namespace paella::engine
