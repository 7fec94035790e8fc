#include "paella/gpu/sim/paced_device.hpp"

#include <algorithm>

#include "paella/clock.hpp"
#include "paella/error.hpp"

namespace paella::gpu::sim {

PacedDevice::PacedDevice(const DeviceSpec& device, const DeviceSpec& reference)
    : device_(device, reference, Sharing::kMps, nullptr), origin_ns_(monotonic_ns()) {}

Process PacedDevice::prepare(const ProcessSpec& process) {
  if (port_ || process.issuing_threads > 0) {
    throw Error("a GPU that keeps pace with the clock is for one thread of one process");
  }
  Process made = device_.prepare(process);
  port_ = made.port;
  made.port = this;
  return made;
}

TimeNs PacedDevice::present() const { return monotonic_ns() - origin_ns_; }

void PacedDevice::come_to_present() {
  now_ = present();
  for (TimeNs next = device_.next_ns(); next <= now_; next = device_.next_ns()) {
    device_.step(next);
  }
  port_->idle_until(now_);
}

bool PacedDevice::tick(TimeNs) {
  come_to_present();
  return true;
}

void PacedDevice::wait() {
  const TimeNs until = port_->now();
  for (now_ = std::max(now_, until); present() < until;) continue;
}

void PacedDevice::submit(StreamId stream, const WorkUnit& unit) {
  come_to_present();  // this thread may have lost its core since the turn began
  port_->submit(stream, unit);
  ++in_flight_;
  wait();
}

void PacedDevice::poll(std::vector<Event>& events) {
  const std::size_t before = events.size();
  port_->poll(events);
  for (std::size_t i = before; i < events.size(); ++i) {
    if (events[i].started_ns >= 0) events[i].started_ns += origin_ns_;
    if (events[i].done) --in_flight_;
  }
  wait();
}

TimeNs PacedDevice::next_event_ns() const {
  const TimeNs next = port_->next_event_ns();
  return next == kNever ? kNever : origin_ns_ + next;
}

}  // namespace paella::gpu::sim
