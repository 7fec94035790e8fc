#pragma once

#include <cstdint>
#include <vector>

#include "paella/gpu/sim/sim_device.hpp"

namespace paella::gpu::sim {

// A simulated GPU that keeps pace with the clock on the wall, as one host thread sees it: its events
// come when they would, and a call takes the time that the modelled one takes. The clock is
// CLOCK_MONOTONIC. Where this host is too slow for that, events are seen late; the GPU's own times
// are not affected.
class PacedGpu : public Port {
 public:
  PacedGpu(const DeviceSpec& device, const DeviceSpec& reference, int hardware_queues,
           std::int32_t streams, int notify_blocks);

  void set_model(std::int32_t index, const plan::Model& model) { device_.set_model(index, model); }
  const std::vector<StreamId>& streams() const { return streams_; }

  // Lets the GPU come to the present.
  void tick();
  TimeNs now() const override { return origin_ns_ + now_; }
  void submit(StreamId stream, const WorkUnit& unit) override;
  void poll(std::vector<Event>& events) override;
  void spend(double) override {}
  double busy_us() const override { return port_->busy_us(); }
  // kNever also while units are under way of which nothing can be seen yet: tick() tells.
  TimeNs next_event_ns() const override;
  void idle_until(TimeNs) override {}

  std::int64_t in_flight() const { return in_flight_; }
  // The longest that the GPU was behind the clock when it came to the present.
  TimeNs longest_lag_ns() const { return longest_lag_ns_; }

 private:
  TimeNs present() const;
  // Until the host's modelled clock has been reached by the one on the wall.
  void wait();

  SimDevice device_;
  SimDevice::SimPort* port_;
  std::vector<StreamId> streams_;
  TimeNs origin_ns_, now_ = 0;
  TimeNs longest_lag_ns_ = 0;
  std::int64_t in_flight_ = 0;
};

}  // namespace paella::gpu::sim
