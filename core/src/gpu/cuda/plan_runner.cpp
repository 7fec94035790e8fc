#include "paella/gpu/cuda/plan_runner.hpp"

#include <cstring>
#include <utility>

#include "paella/error.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr double kLimitS = 60;

Telling telling(Level level) {
  if (!level) return Telling::kNone;
  if (*level >= 0) return Telling::kAll;
  if (*level == kUnitLevel) return Telling::kLast;
  if (*level == kChainLevel) return Telling::kChain;
  throw Error("there is no level " + std::to_string(*level) + " of notification");
}

// The level that the instrumented kernels are launched with.
std::uint32_t number(Level level) {
  return level && *level >= 0 ? static_cast<std::uint32_t>(*level) : 1;
}

struct Kept {
  std::shared_ptr<LoadedModel> model;
  std::shared_ptr<NoteRing> notes;
  std::shared_ptr<Instance> instance;
};

int attribute(Function function, int which, const std::string& doing) {
  int value = 0;
  driver().check(driver().function_get(&value, which, function), doing.c_str());
  return value;
}

}  // namespace

PlanRunner::PlanRunner(std::shared_ptr<OpenGpu> gpu, std::shared_ptr<LoadedModel> model,
                       std::shared_ptr<NoteRing> notes, std::int32_t slot)
    : gpu_(std::move(gpu)), model_(std::move(model)), notes_(std::move(notes)) {
  if (slot < 0 || slot >= notes_->slots()) {
    throw Error("there is no slot " + std::to_string(slot) + ": there are " +
                std::to_string(notes_->slots()));
  }
  own_ = gpu_->make([] { return make_stream(); });
  const auto here = gpu_->enter();
  // The instance's memories go before the weights and the words that its kernels use.
  const auto kept = std::make_shared<Kept>(
      Kept{model_, notes_, gpu_->keep(std::make_unique<Instance>(*model_, *notes_, slot, 1))});
  instance_ = std::shared_ptr<Instance>(kept, kept->instance.get());
}

void PlanRunner::check_kernel(std::int32_t kernel) const {
  if (kernel < 0 || kernel >= kernels()) {
    throw Error(plan().name + " has " + std::to_string(kernels()) + " kernels, and no kernel " +
                std::to_string(kernel));
  }
}

void PlanRunner::check_range(std::int32_t first, std::int32_t last) const {
  if (first < 0 || first > last || last > kernels()) {
    throw Error(plan().name + " has " + std::to_string(kernels()) + " kernels, and not " +
                std::to_string(first) + " to " + std::to_string(last));
  }
}

void PlanRunner::launch(Stream stream, Level level, std::int32_t first, std::int32_t last,
                        bool copies) {
  check_range(first, last);
  const auto here = gpu_->enter();
  WorkUnit unit;
  unit.first_kernel = first;
  unit.last_kernel = last;
  unit.copy_in = unit.copy_out = copies;
  instance_->enqueue(unit, telling(level), number(level), stream);
}

void PlanRunner::launch_single(Stream stream, Level level, std::int32_t kernel, const Grid& grid,
                               bool last) {
  const Kind kind = instance_->kind(kernel, telling(level), last);
  instance_->launch(kernel, kind, number(level), stream, grid);
}

void PlanRunner::launch_one(Stream stream, Level level, std::int32_t kernel,
                            const std::optional<Grid>& grid) {
  check_kernel(kernel);
  const auto here = gpu_->enter();
  launch_single(stream, level, kernel, grid.value_or(plan().launches[kernel].grid), true);
}

PlanRunner::Graph PlanRunner::capture(const std::function<void()>& issue) {
  Graph graph;
  {
    const auto here = gpu_->enter();
    graph = gpu_->keep(
        std::make_unique<OwnedGraphExec>(capture_graph(own_->get(), issue)));
    gpu_->wait(own_->get(), kLimitS);  // for the upload
  }
  // The graph keeps the memories that its kernels use.
  const auto both = std::make_shared<std::pair<std::shared_ptr<Instance>, Graph>>(instance_, graph);
  return Graph(both, graph.get());
}

PlanRunner::Graph PlanRunner::graph(Level level, std::int32_t first, std::int32_t last,
                                    bool copies) {
  return capture([&] { launch(own_->get(), level, first, last, copies); });
}

PlanRunner::Graph PlanRunner::graph_of(Level level, const std::vector<std::int32_t>& kernels) {
  for (const std::int32_t kernel : kernels) check_kernel(kernel);
  return capture([&] {
    for (std::size_t i = 0; i < kernels.size(); ++i) {
      launch_single(own_->get(), level, kernels[i], plan().launches[kernels[i]].grid,
                    i + 1 == kernels.size());
    }
  });
}

PlanRunner::Graph PlanRunner::graph_of_chains(Level level, std::int32_t kernel,
                                              const std::optional<Grid>& grid, std::int32_t chains,
                                              std::int32_t length) {
  check_kernel(kernel);
  if (chains < 1 || length < 0) throw Error("a graph has at least one chain");
  while (side_.size() + 1 < static_cast<std::size_t>(chains)) {
    side_.push_back(gpu_->make([] { return make_stream(); }));
  }
  std::vector<Stream> streams{own_->get()};
  for (std::int32_t i = 1; i < chains; ++i) streams.push_back(side_[i - 1]->get());
  const Grid& size = grid ? *grid : plan().launches[kernel].grid;
  const auto here = gpu_->enter();
  const Driver& d = driver();
  // The graph has edges in the place of these events.
  const OwnedEvent fork = make_event();
  std::vector<OwnedEvent> joins;
  for (std::int32_t i = 1; i < chains; ++i) joins.push_back(make_event());
  return capture([&] {
    d.check(d.event_record(fork.get(), streams[0]), "recording an event");
    for (std::int32_t i = 1; i < chains; ++i) {
      d.check(d.stream_wait_event(streams[i], fork.get(), 0), "waiting for an event");
    }
    for (std::int32_t n = 0; n < length; ++n) {
      for (const Stream stream : streams) {
        launch_single(stream, level, kernel, size, n + 1 == length);
      }
    }
    for (std::int32_t i = 1; i < chains; ++i) {
      d.check(d.event_record(joins[i - 1].get(), streams[i]), "recording an event");
      d.check(d.stream_wait_event(streams[0], joins[i - 1].get(), 0), "waiting for an event");
    }
  });
}

void PlanRunner::launch_graph(const Graph& graph, Stream stream) {
  driver().check(driver().graph_launch(graph->get(), stream), "launching a graph");
}

void PlanRunner::copy(bool in) {
  const auto here = gpu_->enter();
  WorkUnit unit;
  unit.copy_in = in;
  unit.copy_out = !in;
  instance_->enqueue(unit, Telling::kNone, 0, own_->get());
  gpu_->wait(own_->get(), kLimitS);
}

void PlanRunner::set_inputs(const std::vector<std::span<const unsigned char>>& inputs) {
  const std::vector<Instance::Bytes>& to = instance_->host_inputs();
  if (inputs.size() != to.size()) {
    throw Error(plan().name + " takes " + std::to_string(to.size()) + " inputs, not " +
                std::to_string(inputs.size()));
  }
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (inputs[i].size() == to[i].size()) continue;
    throw Error("input " + std::to_string(i) + " of " + plan().name + " has " +
                std::to_string(to[i].size()) + " bytes, not " + std::to_string(inputs[i].size()));
  }
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::memcpy(to[i].data(), inputs[i].data(), to[i].size());
  }
  copy(true);
}

const std::vector<Instance::Bytes>& PlanRunner::outputs() {
  gpu_->wait_all(kLimitS);
  copy(false);
  return instance_->host_outputs();
}

void PlanRunner::poison() {
  gpu_->wait_all(kLimitS);
  const auto here = gpu_->enter();
  instance_->poison();
  instance_->poison_memory(own_->get());
  gpu_->wait(own_->get(), kLimitS);
}

Function PlanRunner::function(std::int32_t kernel, Kind kind) const {
  check_kernel(kernel);
  const Function found = model_->kernels()[kernel].function(kind);
  if (!found) throw Error(plan().name + " has no chained kernels");
  return found;
}

int PlanRunner::blocks_per_sm(std::int32_t kernel, Kind kind) const {
  const Function asked = function(kernel, kind);
  const auto here = gpu_->enter();
  const Launch& launch = plan().launches[kernel];
  const unsigned threads = launch.block[0] * launch.block[1] * launch.block[2];
  const std::string doing =
      "asking for the occupancy of kernel " + std::to_string(kernel) + " of " + plan().name;
  int blocks = 0;
  driver().check(
      driver().occupancy(&blocks, asked, static_cast<int>(threads), launch.dynamic_smem),
      doing.c_str());
  return blocks;
}

PlanRunner::Resources PlanRunner::resources(std::int32_t kernel, Kind kind) const {
  const Function asked = function(kernel, kind);
  const auto here = gpu_->enter();
  const std::string doing =
      "asking for the resources of kernel " + std::to_string(kernel) + " of " + plan().name;
  return {attribute(asked, kRegisters, doing),
          attribute(asked, kSharedBytes, doing) +
              static_cast<int>(plan().launches[kernel].dynamic_smem),
          attribute(asked, kLocalBytes, doing)};
}

}  // namespace paella::gpu::cuda
