#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "paella/gpu/cuda/instance.hpp"
#include "paella/gpu/device.hpp"

namespace paella::gpu::cuda {

struct CudaOptions {
  int ordinal = 0;
  int partition_sms = 0;         // > 0: a green context of so many SMs
  std::int32_t instances = 0;    // of all models that are loaded at a time
  std::uint64_t seed = 1;        // of the inputs
  double watchdog_s = 10;        // how long units may be on the GPU without any of them ending
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

// Makes a context the calling thread's until the end of the scope.
class EnteredContext : public gpu::Device::Entered {
 public:
  explicit EnteredContext(Context context);
  ~EnteredContext() override;
  EnteredContext(const EnteredContext&) = delete;
  EnteredContext& operator=(const EnteredContext&) = delete;

 private:
  Context before_ = nullptr;
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

class CudaPort;
class Watchdog;

// Models loaded on a real GPU, with memories for all jobs that may be in flight. Everything is made
// at the start, by prepare() or by load(); submit() only calls the driver.
class CudaDevice : public gpu::Device {
 public:
  explicit CudaDevice(const CudaOptions& options);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  // Makes the device's context the calling thread's.
  std::unique_ptr<Entered> enter() override;

  std::unique_ptr<Loaded> load(ModelSpec model) override;
  void install(std::int32_t index, std::unique_ptr<Loaded> loaded) override;
  std::unique_ptr<Loaded> remove(std::int32_t index) override;
  void unload(std::unique_ptr<Loaded> loaded) override;
  void add_memory(void* at, std::size_t bytes) override;
  void remove_memory(void* at) override;

  // Streams 0 to count - 1, the graphs of the units for all instances of their models, and a port.
  Process prepare(const ProcessSpec& process) override;
  void start_clock(TimeNs origin_ns) override;
  TimeNs now() const override;
  bool tick(TimeNs until) override;

  bool busy() const override;
  void check_health() override;
  // Looks at the output of a job released.
  bool use_spare_time() override;
  // In submit(), the driver's calls and the comparison of outputs.
  TimeNs driver_ns() const override { return driver_ns_; }
  DeviceCounters counters() const override;

  // ---- For ports.

  // A unit that copies in takes an instance of its model, which the job keeps until release(). Error
  // if the instance's last output, not yet looked at, is wrong.
  InFlight submit(StreamId stream, const WorkUnit& unit);
  // After the job's last unit has ended.
  void release(const InFlight& unit);
  // Error if the GPU has failed.
  void check_stream(StreamId stream) const;
  NoteRing& notes() { return *notes_; }
  const std::string& name(std::int32_t model) const { return models_[model].model->plan().name; }
  // Of all models, those to come included.
  std::int32_t instances() const { return slots_; }

  // ---- For what reports of it.

  int sms() const { return context_.sms(); }
  // As the models give them alone, by model and instance, whose inputs are drawn from one seed after
  // the other.
  std::vector<std::string> outputs() const;

 private:
  struct Installed {
    std::unique_ptr<LoadedModel> model;
    std::vector<std::unique_ptr<Instance>> instances;
    std::vector<Instance*> free;
  };
  struct LoadedInstances;

  void prepare_graphs(Instance& instance, const std::vector<WorkUnit>& units,
                      Stream capturing) const;
  // A stream-ordered write of the instance's `written`.
  void write_behind(Instance& instance, Stream stream) const;
  Instance* take_instance(const WorkUnit& unit);

  DeviceContext context_;
  CudaOptions options_;
  std::int32_t slots_;
  std::uint32_t level_ = 1;  // of kernels that tell of blocks
  std::unique_ptr<NoteRing> notes_;
  std::vector<std::int32_t> free_slots_;  // of the thread that loads
  std::vector<Installed> models_;
  std::vector<InFlight> unchecked_;  // released
  std::int64_t outputs_checked_ = 0, checked_before_ = 0;
  std::vector<Instance*> holding_;        // by unit
  bool writes_values_ = true;             // the GPU can; else a host function does
  std::vector<OwnedStream> streams_;
  TimeNs driver_ns_ = 0;
  std::unique_ptr<CudaPort> port_;
  std::unique_ptr<Watchdog> watchdog_;
};

}  // namespace paella::gpu::cuda
