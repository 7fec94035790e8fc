#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "paella/gpu/cuda/instance.hpp"
#include "paella/gpu/device.hpp"

namespace paella::gpu::cuda {

struct CudaOptions {
  int ordinal = 0;
  int partition_sms = 0;  // > 0: a green context of so many SMs
  std::vector<std::int32_t> instances;  // of each model: jobs that it may have in flight
  std::uint64_t seed = 1;               // of the inputs
  std::int32_t spare_instances = 0;     // of models that come later
};

// A context to be current in the calling thread: the device's primary one, or that of a partition.
class DeviceContext {
 public:
  DeviceContext(int ordinal, int partition_sms);
  ~DeviceContext();
  DeviceContext(const DeviceContext&) = delete;
  DeviceContext& operator=(const DeviceContext&) = delete;
  Context get() const { return context_; }
  int sms() const { return sms_; }

 private:
  Device device_ = 0;
  Context context_ = nullptr;
  GreenContext green_ = nullptr;
  int sms_ = 0;
};

// Which kernels of a unit tell the host of themselves.
Telling telling_of(const WorkUnit& unit);

// A unit on the GPU, and how the host knows that it has ended.
struct InFlight {
  UnitId unit = 0;
  std::int32_t model = 0;
  Instance* instance = nullptr;
  const std::uint32_t* word = nullptr;  // of mapped memory, which comes to `expected`
  std::uint32_t expected = 0;
  std::int32_t job = -1, first_kernel = 0, last_kernel = 0;
  StreamId stream = 0;
  bool last = false;       // of its job
  bool of_client = false;  // the output is none of the device's own
  TimeNs submitted_ns = 0;  // CLOCK_MONOTONIC, when the driver's calls had returned

  bool ended() const { return static_cast<std::int32_t>(NoteRing::load(word) - expected) >= 0; }
};

// Models loaded on a real GPU, with memories for all jobs that may be in flight. Everything is made
// at the start, by prepare() or by load(); submit() only calls the driver. For one thread at a time,
// in which enter() has been called; load() and unload() are for another one.
class CudaDevice {
 public:
  CudaDevice(std::vector<LaunchPlan> plans, const CudaOptions& options);
  ~CudaDevice();

  struct Loaded {
    std::unique_ptr<LoadedModel> model;
    std::vector<std::unique_ptr<Instance>> instances;
    std::vector<Instance*> free;
  };

  // Makes the device's context the calling thread's until the end of the scope.
  class Entered {
   public:
    explicit Entered(Context context);
    ~Entered();
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

   private:
    Context before_ = nullptr;
  };
  Entered enter() const { return Entered(context_.get()); }

  // A model with its instances, and the graphs of these units, made while others are served.
  Loaded load(LaunchPlan plan, std::int32_t instances, const std::vector<WorkUnit>& units,
              std::uint32_t level);
  // Units may name it from now on.
  void install(std::int32_t model, Loaded loaded);
  // No unit names it any more. What is returned goes to unload().
  Loaded remove(std::int32_t model);
  void unload(Loaded loaded);

  // Streams 0 to count - 1, and the graphs of these units for all instances of their models.
  void prepare(std::int32_t streams, const std::vector<WorkUnit>& units, std::uint32_t level);
  // A unit that copies in takes an instance of its model, which the job keeps until release(). Error
  // if the instance's last output, not yet looked at, is wrong.
  InFlight submit(StreamId stream, const WorkUnit& unit, std::uint32_t level);
  // After the job's last unit has ended.
  void release(const InFlight& unit);
  // Looks at the output of a job released; false where all have been looked at. Error if it is
  // wrong.
  bool check_output();
  std::int64_t outputs_checked() const { return outputs_checked_; }
  // Error if the GPU has failed.
  void check_health(StreamId stream) const;

  NoteRing& notes() { return *notes_; }
  const std::string& name(std::int32_t model) const { return models_[model].model->plan().name; }
  int sms() const { return context_.sms(); }
  // Of the time in submit(), so far, what went to the driver's calls and to looking at outputs.
  TimeNs outside_ns() const { return outside_ns_; }
  // As the models give them alone, by model and instance, whose inputs are drawn from one seed after
  // the other.
  std::vector<std::string> outputs() const;
  // Of all models, those to come included.
  std::int32_t instances() const { return slots_; }

 private:
  void set_up(std::vector<LaunchPlan> plans, const CudaOptions& options);
  static void prepare_graphs(Instance& instance, const std::vector<WorkUnit>& units,
                             std::uint32_t level, Stream capturing);
  // A stream-ordered write of the instance's `written`.
  void write_behind(Instance& instance, Stream stream) const;

  DeviceContext context_;
  std::uint64_t seed_;
  std::int32_t slots_;
  std::unique_ptr<NoteRing> notes_;
  std::vector<std::int32_t> free_slots_;  // of the thread that loads
  std::vector<Loaded> models_;
  std::vector<InFlight> unchecked_;  // released
  std::int64_t outputs_checked_ = 0;
  std::vector<Instance*> holding_;        // by unit
  bool writes_values_ = true;             // the GPU can; else a host function does
  std::vector<OwnedStream> streams_;
  TimeNs outside_ns_ = 0;
};

}  // namespace paella::gpu::cuda
