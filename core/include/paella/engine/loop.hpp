#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "paella/engine/server.hpp"
#include "paella/gpu/device.hpp"

namespace paella::engine {

// The one loop: servers take their steps on a device as its time passes, virtual or real, until all
// are done. Everything is in the calling thread.
class Loop {
 public:
  struct Hooks {
    // In each turn, before what is due is done.
    std::function<void()> each_turn;
    // Nothing is on the device and nothing is due before `wake_ns`, which has been so for `idle_ns`.
    // Returns whether the thread slept.
    std::function<bool(TimeNs idle_ns, TimeNs wake_ns)> idle;
  };
  // The servers live longer than the loop.
  Loop(gpu::Device& device, std::vector<Server*> servers, Hooks hooks);

  void run();

  // The longest turn since the last call, without the driver's calls: on the wall clock, what
  // disturbs the thread shows here.
  TimeNs take_longest_turn_ns();
  // Length of the turns in which something was done, without the driver's calls; turns in which the
  // thread lost its core are left out.
  TimeNs own_ns() const { return own_ns_; }

 private:
  Server* first_to_wake();
  void begin_turns();
  void account();
  void wait();

  gpu::Device& device_;
  std::vector<Server*> servers_;
  Hooks hooks_;
  TimeNs wake_ns_ = kNever;  // of the server that wakes first
  bool did_ = false;         // in this turn, anything
  TimeNs worked_ns_ = 0;     // when there was something to do or on the device, last
  TimeNs before_ns_ = 0, driver_before_ns_ = 0;  // of the last turn
  TimeNs longest_turn_ns_ = 0, own_ns_ = 0;
};

}  // namespace paella::engine
