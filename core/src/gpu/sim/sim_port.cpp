// What host threads ask of the simulated GPU and hear of it.
#include <algorithm>

#include "paella/gpu/sim/sim_device.hpp"

namespace paella::gpu::sim {

void SimDevice::SimPort::submit(StreamId stream, const WorkUnit& unit) {
  device_.submit(*this, stream, unit);
}

void SimDevice::SimPort::poll(std::vector<Event>& events) {
  const HostCosts& host = device_.spec_.host;
  spend(host.poll_us);
  const TimeNs until = now();
  for (auto* ring : {&flags_, &callbacks_}) {
    while (!ring->empty() && ring->front().at <= until) {
      events.push_back(ring->front().event);
      spend(host.message_us * ring->front().event.messages);
      ring->pop_front();
    }
  }
}

void SimDevice::SimPort::flag(TimeNs at, const Event& event) {
  auto place = flags_.end();
  while (place != flags_.begin() && std::prev(place)->at > at) --place;
  flags_.insert(place, {at, event});
  ++device_.events_sent_;
}

void SimDevice::SimPort::idle_until(TimeNs until) {
  clock_ns_ = std::max(clock_ns_, static_cast<double>(until));
}

TimeNs SimDevice::SimPort::next_event_ns() const {
  TimeNs next = kNever;
  if (!flags_.empty()) next = flags_.front().at;
  if (!callbacks_.empty()) next = std::min(next, callbacks_.front().at);
  return next;
}

void SimDevice::submit(SimPort& port, StreamId stream, const WorkUnit& work) {
  const std::int32_t slot = units_.take();
  units_[slot] = {work, port.events_to_, -1};

  const QueueSet& process = processes_[port.process_];
  const HostCosts& host = spec_.host;
  const double issue_us = host.issue_at(std::min(process.streams, process.queues));
  if (!streams_[stream].used) port.spend(host.first_launch_us);
  streams_[stream].used = true;
  TimeNs arrives = 0;
  const auto call = [&](double us) {
    port.spend(us);
    arrives = port.now() + to_ns(spec_.gpu.launch_latency_us);
  };
  if (work.as_graph) {
    call(host.graph_issue_us + host.graph_kernel_us * (work.last_kernel - work.first_kernel));
  }
  OpId last = kNone;
  bool first = true;
  const auto issue = [&](OpKind kind, std::int32_t kernel) {
    if (!work.as_graph) call(issue_us);
    last = ops_.take();
    const KernelCost* cost = kind == OpKind::kKernel ? &models_[work.model].kernels[kernel] : nullptr;
    const std::int64_t blocks = cost ? cost->blocks : 0;
    Op& op = ops_[last] = {};
    op.kind = kind;
    op.in_graph = work.as_graph;
    op.first = first;
    op.slot = slot;
    op.kernel = kernel;
    op.stream = stream;
    op.cost = cost;
    op.to_place = op.to_finish = blocks;
    first = false;
    at(arrives, TimerKind::kArrive, last);
  };
  if (work.copy_in) issue(OpKind::kCopyIn, 0);
  for (std::int32_t k = work.first_kernel; k < work.last_kernel; ++k) issue(OpKind::kKernel, k);
  if (work.copy_out) issue(OpKind::kCopyOut, 0);
  ops_[last].last = true;
  if (work.notify == Notify::kUnit && work.notify_call) port.spend(host.notify_issue_us);
}

// Notes of one kernel are sent in batches, and a last partial batch; a batch takes its turn on the
// way to the host.
void SimDevice::report(OpId id, EventKind kind, std::int64_t blocks, TimeNs now) {
  Op& op = ops_[id];
  if (op.kind != OpKind::kKernel) return;
  const bool placed = kind == EventKind::kPlaced;
  if (op.span >= 0) {
    record::KernelSpan& span = timeline_->kernels[op.span];
    if (placed && span.started_ns < 0) span.started_ns = now;
    if (!placed) span.finished_ns = now;
  }
  Unit& unit = units_[op.slot];
  if (unit.work.notify != Notify::kBlocks) return;
  SimPort& port = *unit.port;
  std::int64_t& unreported = placed ? op.unreported_placed : op.unreported_finished;
  const bool all = (placed ? op.to_place : op.to_finish) == 0;
  unreported += blocks;
  const std::int64_t batch = port.notify_blocks_;
  const std::int64_t messages = all ? (unreported + batch - 1) / batch : unreported / batch;
  if (messages == 0) return;
  const std::int64_t told = all ? unreported : messages * batch;
  unreported -= told;
  const GpuModel& gpu = spec_.gpu;
  channel_free_us_ = std::max(channel_free_us_, static_cast<double>(now) * 1e-3) +
                     gpu.message_us * static_cast<double>(messages);
  const bool done = all && !placed && op.last;
  const double sent_us = channel_free_us_ + (all && !placed ? gpu.notes_us : 0);
  port.flag(to_ns(sent_us + gpu.notify_latency_us),
            {kind, unit.work.id, static_cast<std::int32_t>(messages), told, done,
             unit.started_ns});
}

// A block that has a note to send ends when that is on its way.
TimeNs SimDevice::end_of_kernel(const Op& op, TimeNs now) const {
  if (units_[op.slot].work.notify != Notify::kBlocks) return now;
  return std::max(now, to_ns(channel_free_us_ + spec_.gpu.notes_us));
}

}  // namespace paella::gpu::sim
