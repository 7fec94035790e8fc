#include "paella/gpu/cuda/cuda_port.hpp"

#include <algorithm>
#include <utility>

#include "paella/clock.hpp"
#include "paella/error.hpp"
#include "paella/on_cpu.hpp"

namespace paella::gpu::cuda {
namespace {

double thread_cpu_us() { return static_cast<double>(read_clock(CLOCK_THREAD_CPUTIME_ID)) * 1e-3; }

constexpr std::size_t kHandoffs = 1 << 20;  // kept; the rest is as the first million

}  // namespace

CudaPort::CudaPort(CudaDevice& device)
    : device_(device),
      cpu_before_us_(thread_cpu_us()),
      blocks_(static_cast<std::size_t>(device.instances())) {
  handoffs_us_.reserve(kHandoffs);
}

void CudaPort::tick() {
  now_ = since_origin(monotonic_ns());
  saw_end_ = false;
}

double CudaPort::busy_us() const { return thread_cpu_us() - cpu_before_us_; }

void CudaPort::submit(StreamId stream, const WorkUnit& unit) {
  if (in_flight_ == 0) last_event_ns_ = now_;
  const InFlight flight = device_.submit(stream, unit);
  tells_blocks_ = unit.notify == Notify::kBlocks;
  blocks_[flight.instance->slot()].unit = unit.id;
  ++in_flight_;
  add(flight);
  if (saw_end_ && handoffs_us_.size() < kHandoffs) {
    handoffs_us_.push_back(static_cast<double>(since_origin(flight.submitted_ns) - now_) * 1e-3);
  }
  saw_end_ = false;
}

void CudaPort::poll(std::vector<gpu::Event>& events) {
  const std::size_t before = events.size();
  poll_units(events);
  if (events.size() > before) last_event_ns_ = now_;
}

void CudaPort::ended(const InFlight& unit, TimeNs at, std::vector<gpu::Event>& events) {
  --in_flight_;
  saw_end_ = true;
  gpu::Event event;
  event.unit = unit.unit;
  event.done = true;
  event.at_ns = at;
  events.push_back(event);
  if (unit.last) device_.release(unit);
}

void CudaPort::drain_blocks(const std::vector<InFlight>& ended, std::vector<gpu::Event>& events) {
  if (!tells_blocks_) return;
  const auto told = [&](bool finished, std::int32_t slot, std::int64_t blocks) {
    Blocks& b = blocks_[slot];
    if (b.messages[0] + b.messages[1] == 0) told_.push_back(slot);
    ++b.messages[finished];
    b.count[finished] += blocks;
  };
  device_.notes().drain(told);
  for (const InFlight& unit : ended) device_.notes().drain_owed(unit.instance->slot(), told);
  for (const std::int32_t slot : told_) {
    Blocks& b = blocks_[slot];
    for (const bool finished : {false, true}) {
      if (b.messages[finished] == 0) continue;
      gpu::Event event;
      event.kind = finished ? EventKind::kFinished : EventKind::kPlaced;
      event.unit = b.unit;
      event.messages = std::exchange(b.messages[finished], 0);
      event.blocks = std::exchange(b.count[finished], 0);
      events.push_back(event);
    }
  }
  told_.clear();
}

void PollingPort::poll_units(std::vector<gpu::Event>& events) {
  // Ends before messages, for a unit's messages have all come when its end is seen; but they are
  // reported in the order in which they happened.
  ended_.clear();
  for (std::size_t i = 0; i < awaited_.size();) {
    const Awaited& a = awaited_[i];
    if (static_cast<std::int32_t>(NoteRing::load(a.word) - a.expected) < 0) {
      ++i;
      continue;
    }
    ended_.push_back(units_[i]);
    units_[i] = units_.back();
    awaited_[i] = awaited_.back();
    units_.pop_back();
    awaited_.pop_back();
  }
  drain_blocks(ended_, events);
  for (const InFlight& unit : ended_) ended(unit, now(), events);
}

const InFlight& PollingPort::oldest() const {
  return *std::min_element(units_.begin(), units_.end(), [](const auto& a, const auto& b) {
    return a.submitted_ns < b.submitted_ns;
  });
}

WatchedPort::WatchedPort(CudaDevice& device, int cpu)
    : CudaPort(device),
      submitted_(static_cast<std::size_t>(device.instances()) + 1),
      ended_(static_cast<std::size_t>(device.instances()) + 1),
      watcher_([this, cpu] { watch(cpu); }) {}

WatchedPort::~WatchedPort() {
  stop_ = true;
  watcher_.join();
}

TimeNs WatchedPort::next_event_ns() const {
  const Ended* first = ended_.front();
  return first ? std::min(since_origin(first->at_ns), now()) : kNever;
}

void WatchedPort::add(const InFlight& unit) {
  units_.push_back(unit);
  if (!submitted_.push(unit)) throw Error("more units on the GPU than it has instances");
}

void WatchedPort::poll_units(std::vector<gpu::Event>& events) {
  while (const Ended* first = ended_.front()) {
    const Ended end = *first;
    ended_.pop();
    std::erase_if(units_, [&](const InFlight& u) { return u.instance == end.unit.instance; });
    ended(end.unit, since_origin(end.at_ns), events);
  }
}

void WatchedPort::watch(int cpu) {
  const OnCpu here(cpu);
  std::vector<InFlight> units;
  units.reserve(static_cast<std::size_t>(device_.instances()) + 1);
  while (!stop_.load(std::memory_order_relaxed)) {
    while (const InFlight* unit = submitted_.front()) {
      units.push_back(*unit);
      submitted_.pop();
    }
    TimeNs now = -1;
    std::erase_if(units, [&](const InFlight& unit) {
      if (!unit.ended()) return false;
      if (now < 0) now = monotonic_ns();
      ended_.push({unit, now});  // never full: it has room for all that may be in flight
      return true;
    });
  }
}

}  // namespace paella::gpu::cuda
