#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "paella/gpu/cuda/handles.hpp"
#include "paella/plan/launch_plan.hpp"
#include "paella/gpu/cuda/note_ring.hpp"
#include "paella/gpu/device.hpp"

namespace paella::gpu::cuda {

using plan::Grid;
using plan::Launch;
using plan::LaunchPlan;
using plan::Output;
using plan::Place;
using plan::Space;

// The three compiled forms of a kernel.
enum class Kind { kPlain, kInstrumented, kChained };

// Which kernels of a unit are instrumented; the others are plain, or chained where that is said.
enum class Telling {
  kNone,   // the driver writes a word behind the unit
  kLast,   // its last kernel, all of whose blocks one flag covers
  kAll,    // each kernel tells of its blocks
  kChain,  // as kLast, and the kernels before it are chained ones
};

// A model's kernels and weights on the GPU, shared by its instances.
class LoadedModel {
 public:
  explicit LoadedModel(LaunchPlan plan);

  struct Kernel {
    Function plain = nullptr, instrumented = nullptr;
    Function chained = nullptr;  // null where the plan has none

    Function function(Kind kind) const;
  };
  const LaunchPlan& plan() const { return plan_; }  // without cubins and weights
  const std::vector<Kernel>& kernels() const { return kernels_; }
  Pointer weights() const { return weights_.get(); }

 private:
  LaunchPlan plan_;
  OwnedModule plain_, instrumented_, chained_;
  OwnedMemory weights_;
  std::vector<Kernel> kernels_;
};

// The memories of one job at a time, with every launch's parameters in place.
class Instance {
 public:
  // `slot` is the instance's own in `notes`; its input is drawn from `seed`.
  Instance(const LoadedModel& model, NoteRing& notes, std::int32_t slot, std::uint64_t seed);

  // Puts one kernel into the stream: the launch that serving, checking and profiling share. `level`
  // is for instrumented kernels (core/device_code/notify.cuh); a `grid` smaller than the plan's
  // leaves out blocks.
  void launch(std::int32_t kernel, Kind kind, std::uint32_t level, Stream stream,
              const Grid& grid);
  void launch(std::int32_t kernel, Kind kind, std::uint32_t level, Stream stream);

  // The kind of a kernel in a unit, which it may be the last of.
  Kind kind(std::int32_t kernel, Telling telling, bool last) const;

  // Puts the unit's operations into the stream.
  void enqueue(const WorkUnit& unit, Telling telling, std::uint32_t level, Stream stream);
  // The same in one call, but for copies of a client's memory, which a graph does not know;
  // prepared before, so that nothing is made while serving.
  void prepare_graph(WorkUnit unit, Telling telling, std::uint32_t level, Stream capturing);
  void launch_graph(const WorkUnit& unit, Telling telling, std::uint32_t level, Stream stream);

  // Runs the first kernel, for a stream that has run none yet.
  void try_stream(Stream stream);
  // Runs the whole model alone, and keeps its outputs for right() to compare with; then runs each
  // instrumented kernel, which has to give the same. Error if it does not.
  void make_reference(Stream stream);
  // Before the next job, so that an output that does not come is seen.
  void poison();
  // The same for all device memory that kernels write.
  void poison_memory(Stream stream);
  bool right() const;
  // What make_reference() kept, one output behind the other.
  std::string outputs() const;
  // Page-locked memory that jobs copy in from and out to.
  using Bytes = std::span<unsigned char>;
  const std::vector<Bytes>& host_inputs() const { return host_inputs_; }
  const std::vector<Bytes>& host_outputs() const { return host_outputs_; }

  const LoadedModel& model() const { return model_; }
  std::int32_t slot() const { return slot_; }
  SlotWords& words() { return *words_; }
  // Of instrumented kernels at level 1 or above in its slot, so far; whoever had the slot before
  // included.
  std::uint32_t launches = 0;

 private:
  struct Parameters {  // of one launch
    std::vector<Pointer> values;
    std::vector<void*> pointers;  // the values, and what an instrumented kernel takes more
    std::vector<void*> chained;   // the values, and what a chained kernel takes more
    std::uint32_t position = 0;   // of the kernel in its chain, from 1
  };
  struct Executable {
    std::int32_t last;
    Telling telling;
    std::uint32_t level;
    bool copy_in, copy_out;
    OwnedGraphExec graph;
  };

  Pointer address(const Place& place) const;
  void set_parameters();
  void copy_in(Stream stream, const void* client);
  void copy_out(Stream stream, void* client);
  Executable* find(const WorkUnit& unit, Telling telling, std::uint32_t level);
  void run_alone(Telling telling, Stream stream);

  const LoadedModel& model_;
  std::int32_t slot_;
  SlotWords* words_;
  Pointer slot_at_, words_at_, position_at_;
  std::uint32_t level_ = 0;
  OwnedMemory arena_;
  std::vector<OwnedMemory> inputs_, outputs_;
  std::unique_ptr<MappedMemory> host_input_, host_output_;
  std::vector<Bytes> host_inputs_, host_outputs_;  // the tensors in them
  std::vector<Parameters> parameters_;
  std::vector<unsigned char> reference_;
  std::vector<std::vector<Executable>> graphs_;  // by first kernel
};

}  // namespace paella::gpu::cuda
