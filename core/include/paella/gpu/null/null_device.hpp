#pragma once

#include <numeric>
#include <vector>

#include "paella/clock.hpp"
#include "paella/gpu/device.hpp"

namespace paella::gpu {

// A device on which every unit has ended when its submission returns: what is left is the cost of
// everything else. Its clock is CLOCK_MONOTONIC, and stands still between two ticks.
class NullDevice : public Device, private Port {
 public:
  std::unique_ptr<Loaded> load(ModelSpec) override { return std::make_unique<Loaded>(); }
  void install(std::int32_t, std::unique_ptr<Loaded>) override {}
  std::unique_ptr<Loaded> remove(std::int32_t) override { return std::make_unique<Loaded>(); }

  Process prepare(const ProcessSpec& process) override {
    Process made;
    made.streams.resize(static_cast<std::size_t>(process.streams));
    std::iota(made.streams.begin(), made.streams.end(), 0);
    made.port = this;
    made.issuing.assign(static_cast<std::size_t>(process.issuing_threads), this);
    return made;
  }
  void start_clock(TimeNs origin_ns) override { origin_ns_ = origin_ns; }
  TimeNs now() const override { return now_; }
  bool tick(TimeNs) override {
    now_ = monotonic_ns() - origin_ns_;
    return true;
  }
  bool busy() const override { return !ended_.empty(); }

 private:
  void submit(StreamId, const WorkUnit& unit) override {
    Event event;
    event.unit = unit.id;
    event.done = true;
    event.started_ns = now_;
    ended_.push_back(event);
  }
  void poll(std::vector<Event>& events) override {
    events.insert(events.end(), ended_.begin(), ended_.end());
    ended_.clear();
  }
  void spend(double) override {}
  double busy_us() const override { return 0; }
  TimeNs next_event_ns() const override { return ended_.empty() ? kNever : now_; }
  void idle_until(TimeNs) override {}

  TimeNs origin_ns_ = 0, now_ = 0;
  std::vector<Event> ended_;
};

}  // namespace paella::gpu
