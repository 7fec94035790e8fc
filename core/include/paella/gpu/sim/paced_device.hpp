#pragma once

#include <cstdint>
#include <vector>

#include "paella/gpu/sim/sim_device.hpp"

namespace paella::gpu::sim {

// A simulated GPU that keeps pace with the clock on the wall, as one host thread sees it: its events
// come when they would, and a call takes the time that the modelled one takes. The clock is
// CLOCK_MONOTONIC. Where this host is too slow for that, events are seen late; the GPU's own times
// are not affected.
class PacedDevice : public Device, private Port {
 public:
  PacedDevice(const DeviceSpec& device, const DeviceSpec& reference);

  std::unique_ptr<Loaded> load(ModelSpec model) override { return device_.load(std::move(model)); }
  void install(std::int32_t index, std::unique_ptr<Loaded> loaded) override {
    device_.install(index, std::move(loaded));
  }
  std::unique_ptr<Loaded> remove(std::int32_t index) override { return device_.remove(index); }
  // Once, for one thread.
  Process prepare(const ProcessSpec& process) override;
  TimeNs now() const override { return origin_ns_ + now_; }
  bool tick(TimeNs until) override;
  bool busy() const override { return in_flight_ > 0; }

 private:
  void submit(StreamId stream, const WorkUnit& unit) override;
  void poll(std::vector<Event>& events) override;
  void spend(double) override {}
  double busy_us() const override { return port_->busy_us(); }
  // kNever also while units are under way of which nothing can be seen yet: tick() tells.
  TimeNs next_event_ns() const override;
  void idle_until(TimeNs) override {}

  TimeNs present() const;
  void come_to_present();
  // Until the host's modelled clock has been reached by the one on the wall.
  void wait();

  SimDevice device_;
  Port* port_ = nullptr;
  TimeNs origin_ns_, now_ = 0;
  std::int64_t in_flight_ = 0;
};

}  // namespace paella::gpu::sim
