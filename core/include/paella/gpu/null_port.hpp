#pragma once

#include <vector>

#include "paella/clock.hpp"
#include "paella/gpu/device.hpp"

namespace paella::gpu {

// A device on which every unit has ended when its submission returns: what is left is the cost of
// everything else. Its clock is CLOCK_MONOTONIC, and stands still between two ticks.
class NullPort : public Port {
 public:
  void tick() { now_ = monotonic_ns(); }
  TimeNs now() const override { return now_; }
  void submit(StreamId, const WorkUnit& unit) override {
    ended_.push_back({EventKind::kFinished, unit.id, 1, 0, true, now_});
  }
  void poll(std::vector<Event>& events) override {
    events.insert(events.end(), ended_.begin(), ended_.end());
    ended_.clear();
  }
  void spend(double) override {}
  double busy_us() const override { return 0; }
  TimeNs next_event_ns() const override { return ended_.empty() ? kNever : now_; }
  void idle_until(TimeNs) override {}
  bool busy() const { return !ended_.empty(); }

 private:
  TimeNs now_ = 0;
  std::vector<Event> ended_;
};

}  // namespace paella::gpu
