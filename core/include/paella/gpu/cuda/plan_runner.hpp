#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "paella/gpu/cuda/instance.hpp"
#include "paella/gpu/cuda/open_gpu.hpp"

namespace paella::gpu::cuda {

// How kernels are launched: none, plain ones; 0 or more, instrumented ones of that level
// (core/device_code/notify.cuh). Below 0, kernels issued together: the last of them is instrumented
// and has level 1, those before it are plain (kUnitLevel) or chained (kChainLevel).
using Level = std::optional<std::int32_t>;
constexpr std::int32_t kUnitLevel = -1;
constexpr std::int32_t kChainLevel = -2;

// A model on an open GPU, with memories for one job at a time. It launches as serving does, by
// Instance, whatever a check or a measurement needs: parts of the model, single kernels, graphs.
// Which work waits for which is the caller's to say, by streams. Memories are there until the runner
// and all of its graphs have gone.
class PlanRunner {
 public:
  using Graph = std::shared_ptr<OwnedGraphExec>;

  // `slot` is the runner's own in `notes`.
  PlanRunner(std::shared_ptr<OpenGpu> gpu, std::shared_ptr<LoadedModel> model,
             std::shared_ptr<NoteRing> notes, std::int32_t slot);

  // Puts kernels [first, last) into the stream; with `copies`, input before and output behind.
  void launch(Stream stream, Level level, std::int32_t first, std::int32_t last, bool copies);
  // One kernel, of which a smaller grid leaves out blocks.
  void launch_one(Stream stream, Level level, std::int32_t kernel, const std::optional<Grid>& grid);
  // What launch() would issue, as a graph.
  Graph graph(Level level, std::int32_t first, std::int32_t last, bool copies);
  // These kernels one after the other, as a graph.
  Graph graph_of(Level level, const std::vector<std::int32_t>& kernels);
  // A graph of chains side by side, each of `length` launches of one kernel.
  Graph graph_of_chains(Level level, std::int32_t kernel, const std::optional<Grid>& grid,
                        std::int32_t chains, std::int32_t length);
  static void launch_graph(const Graph& graph, Stream stream);

  // Copies inputs to the GPU, in the order of the plan; returns when they are there.
  void set_inputs(const std::vector<std::span<const unsigned char>>& inputs);
  // Waits for all streams and copies the outputs from the GPU; valid until the next call.
  const std::vector<Instance::Bytes>& outputs();
  // Waits for all streams; then fills all memory that kernels write with ones, which are NaNs.
  void poison();

  // Blocks of a kernel that one SM holds, by the driver's occupancy calculation.
  int blocks_per_sm(std::int32_t kernel, Kind kind) const;
  struct Resources {
    int registers;     // per thread
    int shared_bytes;  // per block, with the dynamic part
    int local_bytes;   // per thread
  };
  Resources resources(std::int32_t kernel, Kind kind) const;

  std::int32_t kernels() const { return static_cast<std::int32_t>(model_->kernels().size()); }
  const LaunchPlan& plan() const { return model_->plan(); }
  const std::shared_ptr<OpenGpu>& gpu() const { return gpu_; }

 private:
  void check_kernel(std::int32_t kernel) const;
  void check_range(std::int32_t first, std::int32_t last) const;
  void launch_single(Stream stream, Level level, std::int32_t kernel, const Grid& grid, bool last);
  Graph capture(const std::function<void()>& issue);
  void copy(bool in);
  Function function(std::int32_t kernel, Kind kind) const;

  std::shared_ptr<OpenGpu> gpu_;
  std::shared_ptr<LoadedModel> model_;
  std::shared_ptr<NoteRing> notes_;
  std::shared_ptr<OwnedStream> own_;  // for captures and copies; idle between calls
  std::vector<std::shared_ptr<OwnedStream>> side_;  // for captures
  std::shared_ptr<Instance> instance_;
};

}  // namespace paella::gpu::cuda
