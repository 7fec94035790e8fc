#pragma once

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "paella/gpu/cuda/cuda_device.hpp"
#include "paella/spsc_queue.hpp"

namespace paella::gpu::cuda {

// The serving thread's view of a real GPU. Its clock stands still between two ticks, so that one
// turn of the serving loop sees one time.
class CudaPort : public Port {
 public:
  explicit CudaPort(CudaDevice& device);

  // Before all else; time 0 is `origin_ns` of CLOCK_MONOTONIC.
  void begin(TimeNs origin_ns) {
    origin_ns_ = origin_ns;
    tick();
  }
  void tick();
  TimeNs now() const override { return now_; }
  void submit(StreamId stream, const WorkUnit& unit) override;
  void poll(std::vector<gpu::Event>& events) override;
  void spend(double) override {}
  double busy_us() const override;
  TimeNs next_event_ns() const override { return in_flight_ > 0 ? now_ : kNever; }
  void idle_until(TimeNs) override {}

  std::int64_t in_flight() const { return in_flight_; }
  TimeNs last_event_ns() const { return last_event_ns_; }
  // Any unit on the GPU; there has to be one.
  virtual const InFlight& oldest() const = 0;
  // From the end of a unit, as seen here, until the next unit of any job had been issued; where
  // there was one to issue at once.
  const std::vector<double>& handoffs_us() const { return handoffs_us_; }

 protected:
  virtual void add(const InFlight& unit) = 0;
  // Calls ended(unit, when) for those that have.
  virtual void poll_units(std::vector<gpu::Event>& events) = 0;
  void ended(const InFlight& unit, TimeNs at, std::vector<gpu::Event>& events);
  // What the kernels have told of their blocks, also of those of `ended`.
  void drain_blocks(const std::vector<InFlight>& ended, std::vector<gpu::Event>& events);

  TimeNs since_origin(TimeNs monotonic_ns) const { return monotonic_ns - origin_ns_; }

  CudaDevice& device_;

 private:
  TimeNs origin_ns_ = 0, now_ = 0;
  double cpu_before_us_;
  std::int64_t in_flight_ = 0;
  TimeNs last_event_ns_ = 0;
  bool saw_end_ = false;  // in this turn, with no submit() since
  // Of a slot, which has one unit on the GPU at a time: what its kernels have told since the last
  // turn, placed and finished.
  struct Blocks {
    UnitId unit = -1;
    std::int32_t messages[2] = {0, 0};
    std::int64_t count[2] = {0, 0};
  };
  std::vector<Blocks> blocks_;
  std::vector<std::int32_t> told_;  // the slots that have told something
  std::vector<double> handoffs_us_;
  bool tells_blocks_ = false;
};

// The thread looks for ends itself, as a dispatcher does.
class PollingPort : public CudaPort {
 public:
  using CudaPort::CudaPort;
  const InFlight& oldest() const override;

 private:
  // What every turn reads of a unit in flight; the rest lies apart.
  struct Awaited {
    const std::uint32_t* word;
    std::uint32_t expected;
  };
  void add(const InFlight& unit) override {
    units_.push_back(unit);
    awaited_.push_back({unit.word, unit.expected});
  }
  void poll_units(std::vector<gpu::Event>& events) override;

  std::vector<InFlight> units_;
  std::vector<Awaited> awaited_;  // of units_
  std::vector<InFlight> ended_;   // in this turn
};

// Another thread looks for ends and notes the time, because this one may be long in the driver.
class WatchedPort : public CudaPort {
 public:
  // The watching thread runs on `cpu`; a negative one is any.
  WatchedPort(CudaDevice& device, int cpu);
  ~WatchedPort() override;
  TimeNs next_event_ns() const override;
  const InFlight& oldest() const override { return units_.front(); }

 private:
  struct Ended {
    InFlight unit;
    TimeNs at_ns;  // CLOCK_MONOTONIC
  };
  void add(const InFlight& unit) override;
  void poll_units(std::vector<gpu::Event>& events) override;
  void watch(int cpu);

  std::vector<InFlight> units_;
  SpscQueue<InFlight> submitted_;
  SpscQueue<Ended> ended_;
  std::atomic<bool> stop_{false};
  std::thread watcher_;
};

}  // namespace paella::gpu::cuda
