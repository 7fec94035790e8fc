#include "paella/gpu/sim/paced_gpu.hpp"

#include <algorithm>

#include "paella/clock.hpp"

namespace paella::gpu::sim {

PacedGpu::PacedGpu(const DeviceSpec& device, const DeviceSpec& reference, int hardware_queues,
                   std::int32_t streams, int notify_blocks)
    : device_(device, reference, {}, Sharing::kMps, nullptr), origin_ns_(monotonic_ns()) {
  const int process = device_.add_process(hardware_queues);
  for (std::int32_t s = 0; s < streams; ++s) streams_.push_back(device_.add_stream(process));
  port_ = &device_.add_port(process, notify_blocks);
}

TimeNs PacedGpu::present() const { return monotonic_ns() - origin_ns_; }

void PacedGpu::tick() {
  now_ = present();
  for (TimeNs next = device_.next_ns(); next <= now_; next = device_.next_ns()) {
    device_.step(next);
  }
  longest_lag_ns_ = std::max(longest_lag_ns_, present() - now_);
  port_->idle_until(now_);
}

void PacedGpu::wait() {
  const TimeNs until = port_->now();
  for (now_ = std::max(now_, until); present() < until;) continue;
}

void PacedGpu::submit(StreamId stream, const WorkUnit& unit) {
  port_->submit(stream, unit);
  ++in_flight_;
  wait();
}

void PacedGpu::poll(std::vector<Event>& events) {
  const std::size_t before = events.size();
  port_->poll(events);
  for (std::size_t i = before; i < events.size(); ++i) {
    if (events[i].started_ns >= 0) events[i].started_ns += origin_ns_;
    if (events[i].done) --in_flight_;
  }
  wait();
}

TimeNs PacedGpu::next_event_ns() const {
  const TimeNs next = port_->next_event_ns();
  return next == kNever ? kNever : origin_ns_ + next;
}

}  // namespace paella::gpu::sim
