#include "paella/engine/loop.hpp"

#include <algorithm>
#include <utility>

namespace paella::engine {
namespace {

constexpr TimeNs kPreemptedNs = 200'000;  // longer than any turn of the loop's own

}  // namespace

Loop::Loop(gpu::Device& device, std::vector<Server*> servers, Hooks hooks)
    : device_(device), servers_(std::move(servers)), hooks_(std::move(hooks)) {}

TimeNs Loop::take_longest_turn_ns() { return std::exchange(longest_turn_ns_, 0); }

// The server that wakes first, at wake_ns_; null when all are done.
Server* Loop::first_to_wake() {
  Server* first = nullptr;
  wake_ns_ = kNever;
  for (Server* server : servers_) {
    if (server->done()) continue;
    const TimeNs at = server->wake_ns();
    if (at < wake_ns_ || !first) {
      wake_ns_ = at;
      first = server;
    }
  }
  return first;
}

void Loop::run() {
  begin_turns();
  while (Server* server = first_to_wake()) {
    if (!device_.tick(wake_ns_)) continue;
    account();
    if (hooks_.each_turn) hooks_.each_turn();
    const bool due = wake_ns_ <= device_.now();
    did_ = due && server->step();
    if (due) worked_ns_ = device_.now();
    if (did_) continue;
    device_.use_spare_time();
    if (device_.busy()) {
      device_.check_health();
      worked_ns_ = device_.now();
    } else if (!due) {
      wait();
    }
  }
}

void Loop::begin_turns() {
  before_ns_ = worked_ns_ = device_.now();
  driver_before_ns_ = device_.driver_ns();
  did_ = false;
}

// The turn that has ended.
void Loop::account() {
  const TimeNs now = device_.now(), driver_ns = device_.driver_ns();
  const TimeNs own = now - before_ns_ - (driver_ns - driver_before_ns_);
  longest_turn_ns_ = std::max(longest_turn_ns_, own);
  if (did_ && own < kPreemptedNs) own_ns_ += own;
  before_ns_ = now;
  driver_before_ns_ = driver_ns;
}

void Loop::wait() {
  if (!hooks_.idle || !hooks_.idle(device_.now() - worked_ns_, wake_ns_)) return;
  device_.tick(device_.now());
  begin_turns();
}

}  // namespace paella::engine
