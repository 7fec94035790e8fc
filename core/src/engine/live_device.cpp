#include "paella/engine/live_device.hpp"

#include <numeric>

#include "paella/engine/stages.hpp"
#include "paella/engine/watchdog.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/cuda_port.hpp"
#include "paella/gpu/null_port.hpp"
#include "paella/gpu/sim/paced_gpu.hpp"

namespace paella::engine {
namespace {

std::vector<gpu::StreamId> numbered(std::int32_t count) {
  std::vector<gpu::StreamId> streams(count);
  std::iota(streams.begin(), streams.end(), 0);
  return streams;
}

class NullDevice : public LiveDevice {
 public:
  explicit NullDevice(const LiveSpec& spec) : streams_(spec.system.streams) {}

  std::unique_ptr<Loaded> load(LiveModel) override { return std::make_unique<Loaded>(); }
  void install(std::int32_t, Loaded&) override {}
  std::unique_ptr<Loaded> remove(std::int32_t) override { return std::make_unique<Loaded>(); }
  gpu::Port& port() override { return port_; }
  std::vector<gpu::StreamId> streams() const override { return numbered(streams_); }
  void tick() override { port_.tick(); }
  bool busy() const override { return port_.busy(); }

 private:
  std::int32_t streams_;
  gpu::NullPort port_;
};

class SimulatedDevice : public LiveDevice {
 public:
  explicit SimulatedDevice(const LiveSpec& spec)
      : gpu_(spec.device, spec.reference, spec.system.hardware_queues, spec.system.streams,
             spec.system.notify_blocks) {}

  struct Model : Loaded {
    plan::Model model;
  };
  std::unique_ptr<Loaded> load(LiveModel live) override {
    auto loaded = std::make_unique<Model>();
    loaded->model = std::move(live.model);
    return loaded;
  }
  void install(std::int32_t index, Loaded& loaded) override {
    gpu_.set_model(index, static_cast<Model&>(loaded).model);
  }
  std::unique_ptr<Loaded> remove(std::int32_t) override { return std::make_unique<Loaded>(); }
  gpu::Port& port() override { return gpu_; }
  std::vector<gpu::StreamId> streams() const override { return gpu_.streams(); }
  void tick() override { gpu_.tick(); }
  bool busy() const override { return gpu_.in_flight() > 0; }

 private:
  gpu::sim::PacedGpu gpu_;
};

class RealDevice : public LiveDevice {
 public:
  explicit RealDevice(const LiveSpec& spec)
      : system_(spec.system),
        level_(static_cast<std::uint32_t>(spec.system.notify_blocks)),
        device_({}, {spec.ordinal, spec.partition_sms, {}, 1, spec.instances}),
        watchdog_(spec.watchdog_s) {
    const auto here = device_.enter();
    device_.prepare(system_.streams, {}, level_);
    port_ = std::make_unique<gpu::cuda::PollingPort>(device_, level_);
    port_->begin(0);
  }

  struct Here : Entered {
    explicit Here(const gpu::cuda::CudaDevice& device) : here(device.enter()) {}
    gpu::cuda::CudaDevice::Entered here;
  };
  std::unique_ptr<Entered> enter() override { return std::make_unique<Here>(device_); }

  struct Model : Loaded {
    gpu::cuda::CudaDevice::Loaded loaded;
  };
  std::unique_ptr<Loaded> load(LiveModel live) override {
    if (!live.launch_plan) throw Error("model " + live.model.name + " has no launch plan");
    std::vector<gpu::WorkUnit> units;
    if (system_.graphs) units = units_of(live.model, system_);
    for (gpu::WorkUnit& unit : units) unit.of_client = true;
    auto model = std::make_unique<Model>();
    model->loaded = device_.load(std::move(*live.launch_plan), live.instances, units, level_);
    return model;
  }
  void install(std::int32_t index, Loaded& loaded) override {
    device_.install(index, std::move(static_cast<Model&>(loaded).loaded));
  }
  std::unique_ptr<Loaded> remove(std::int32_t index) override {
    auto model = std::make_unique<Model>();
    model->loaded = device_.remove(index);
    return model;
  }
  void unload(std::unique_ptr<Loaded> loaded) override {
    device_.unload(std::move(static_cast<Model&>(*loaded).loaded));
  }
  void add_memory(void* at, std::size_t bytes) override {
    const gpu::cuda::Driver& d = gpu::cuda::driver();
    d.check(d.host_register(at, bytes, 0), "registering a client's memory");
  }
  void remove_memory(void* at) override { gpu::cuda::driver().host_unregister(at); }

  gpu::Port& port() override { return *port_; }
  std::vector<gpu::StreamId> streams() const override { return numbered(system_.streams); }
  void tick() override { port_->tick(); }
  bool busy() const override { return port_->in_flight() > 0; }
  TimeNs outside_ns() const override { return device_.outside_ns(); }
  void watch() override { watchdog_.look(device_, *port_); }

 private:
  SystemSpec system_;
  std::uint32_t level_;
  gpu::cuda::CudaDevice device_;
  std::unique_ptr<gpu::cuda::PollingPort> port_;
  Watchdog watchdog_;
};

}  // namespace

std::unique_ptr<LiveDevice> make_live_device(const LiveSpec& spec) {
  if (!spec.system.dispatcher) throw Error("a server needs a system with a dispatcher");
  switch (spec.backend) {
    case LiveSpec::Backend::kNull: return std::make_unique<NullDevice>(spec);
    case LiveSpec::Backend::kSim: return std::make_unique<SimulatedDevice>(spec);
    case LiveSpec::Backend::kCuda: return std::make_unique<RealDevice>(spec);
  }
  throw Error("an unknown backend");
}

}  // namespace paella::engine
