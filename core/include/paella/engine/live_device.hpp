#pragma once

#include <memory>
#include <optional>

#include "paella/engine/system.hpp"
#include "paella/gpu/cuda/cuda_device.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"

namespace paella::engine {

// What a live server serves on.
struct LiveSpec {
  enum class Backend { kNull, kSim, kCuda };
  Backend backend = Backend::kSim;
  SystemSpec system;  // with a dispatcher
  gpu::DeviceSpec device;
  gpu::DeviceSpec reference;  // the device that the models' kernels were measured on
  int ordinal = 0;
  int partition_sms = 0;
  std::int32_t instances = 256;  // of all models that are there at a time
  double watchdog_s = 10;
};

struct LiveModel {
  plan::Model model;
  std::int32_t instances = 1;
  std::optional<gpu::cuda::LaunchPlan> launch_plan;  // for a real GPU
};

// A device on which models come and go while it works. The serving thread uses it, but for load() and
// unload(), which take long and are the control thread's.
class LiveDevice {
 public:
  virtual ~LiveDevice() = default;

  // Around everything that a thread does with it.
  class Entered {
   public:
    virtual ~Entered() = default;
  };
  virtual std::unique_ptr<Entered> enter() { return std::make_unique<Entered>(); }

  class Loaded {
   public:
    virtual ~Loaded() = default;
  };
  virtual std::unique_ptr<Loaded> load(LiveModel model) = 0;
  virtual void install(std::int32_t index, Loaded& loaded) = 0;
  virtual std::unique_ptr<Loaded> remove(std::int32_t index) = 0;
  virtual void unload(std::unique_ptr<Loaded> loaded) { loaded.reset(); }
  // Memory of clients that copies may name. Control thread.
  virtual void add_memory(void*, std::size_t) {}
  virtual void remove_memory(void*) {}

  virtual gpu::Port& port() = 0;
  virtual std::vector<gpu::StreamId> streams() const = 0;
  // The present, for one turn.
  virtual void tick() = 0;
  virtual bool busy() const = 0;
  // Of the serving thread's time so far, what went to the driver's calls.
  virtual TimeNs outside_ns() const { return 0; }
  // Error if the device has failed or stands still.
  virtual void watch() {}
};

std::unique_ptr<LiveDevice> make_live_device(const LiveSpec& spec);

}  // namespace paella::engine
