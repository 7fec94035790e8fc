#include "paella/engine/stages.hpp"

namespace paella::engine {

namespace {

// Whether the next kernel, which takes so long, begins another stage.
bool is_full(const Stage& stage, double next_us, const UnitOfDispatch& unit) {
  if (const auto* whole = std::get_if<WholeUnit>(&unit)) return *whole == WholeUnit::kKernel;
  const Segment& segment = std::get<Segment>(unit);
  if (segment.kernels) return stage.last_kernel - stage.first_kernel >= *segment.kernels;
  // Half of the next kernel may go over: units come out about as long as asked for.
  return stage.alone_us + next_us / 2 > segment.us.value_or(0);
}

gpu::Notify notify_of(const SystemSpec& system) {
  if (std::holds_alternative<BlockNotes>(system.notify)) return gpu::Notify::kBlocks;
  return std::get<NotifyEnd>(system.notify) == NotifyEnd::kUnit ? gpu::Notify::kUnit
                                                                : gpu::Notify::kStream;
}

}  // namespace

std::vector<Stage> cut(const plan::Model& model, const UnitOfDispatch& unit) {
  const auto kernels = static_cast<std::int32_t>(model.kernels.size());
  std::vector<Stage> stages;
  for (std::int32_t k = 0; k < kernels; ++k) {
    const plan::Kernel& kernel = model.kernels[k];
    const double us = to_us(kernel.duration_ns);
    if (stages.empty() || is_full(stages.back(), us, unit)) {
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
  const auto* whole = std::get_if<WholeUnit>(&unit);
  if (whole && *whole == WholeUnit::kKernel) {
    Stage copy_in, copy_out;
    copy_in.copy_in = copy_out.copy_out = true;
    stages.insert(stages.begin(), copy_in);
    stages.push_back(copy_out);
  } else {
    if (stages.empty()) stages.emplace_back();
    stages.front().copy_in = stages.back().copy_out = true;
  }
  return stages;
}

gpu::WorkUnit unit_of(const Stage& stage, const SystemSpec& system) {
  gpu::WorkUnit unit;
  unit.first_kernel = stage.first_kernel;
  unit.last_kernel = stage.last_kernel;
  unit.copy_in = stage.copy_in;
  unit.copy_out = stage.copy_out;
  unit.as_graph = system.graphs();
  unit.notify = notify_of(system);
  unit.notify_call = system.kernels == Kernels::kPlain;
  return unit;
}

std::vector<gpu::WorkUnit> units_of(const plan::Model& model, const SystemSpec& system) {
  std::vector<gpu::WorkUnit> units;
  const UnitOfDispatch unit = system.has_dispatcher() ? system.unit : WholeUnit::kJob;
  for (const Stage& stage : cut(model, unit)) units.push_back(unit_of(stage, system));
  return units;
}

}  // namespace paella::engine
