#include "paella/gpu/sim/sim_device.hpp"

#include <algorithm>
#include <cmath>

#include "paella/error.hpp"

namespace paella::gpu::sim {
namespace {

struct LoadedCost : Device::Loaded {
  explicit LoadedCost(ModelCost of) : cost(std::move(of)) {}
  ModelCost cost;
};

}  // namespace

SimDevice::SimDevice(const DeviceSpec& device, const DeviceSpec& reference, Sharing sharing,
                     record::Timeline* timeline)
    : spec_(device), reference_(reference), sharing_(sharing), timeline_(timeline) {}

std::unique_ptr<Device::Loaded> SimDevice::load(ModelSpec of) {
  const plan::Model& model = of.model;
  ModelCost cost;
  for (const plan::Kernel& kernel : model.kernels) {
    cost.kernels.push_back(kernel_cost(kernel, reference_, spec_));
  }
  const CopyRates& copy = spec_.copy;
  cost.copy_in_ns =
      to_ns(copy.latency_us + static_cast<double>(model.input_bytes) / copy.h2d_bytes_per_us);
  cost.copy_out_ns =
      to_ns(copy.latency_us + static_cast<double>(model.output_bytes) / copy.d2h_bytes_per_us);
  cost.weights_bytes = static_cast<double>(model.weights_bytes);
  cost.arena_bytes = static_cast<double>(model.arena_bytes);
  return std::make_unique<LoadedCost>(std::move(cost));
}

void SimDevice::install(std::int32_t index, std::unique_ptr<Loaded> loaded) {
  const auto m = static_cast<std::size_t>(index);
  if (m >= models_.size()) {
    models_.resize(m + 1);
    for (const auto& context : contexts_) context->units.resize(m + 1);
  }
  models_[m] = std::move(static_cast<LoadedCost&>(*loaded).cost);
}

void SimDevice::add_models(const std::vector<plan::Model>& models) {
  for (const plan::Model& model : models) {
    install(static_cast<std::int32_t>(models_.size()), load({model, 1, {}, {}}));
  }
}

Process SimDevice::prepare(const ProcessSpec& spec) {
  const int process = add_process(spec.hardware_queues);
  Process made;
  for (std::int32_t i = 0; i < spec.streams; ++i) made.streams.push_back(add_stream(process));
  SimPort& port = add_port(process, spec.notify_blocks);
  made.port = &port;
  for (std::int32_t i = 0; i < spec.issuing_threads; ++i) {
    made.issuing.push_back(&add_port(process, port));
  }
  return made;
}

// The GPU before the host, so that a host thread sees all that has happened by its own time.
bool SimDevice::tick(TimeNs until) {
  const std::int64_t sent = events_sent_;
  TimeNs next = next_ns();
  while (next != kNever && next <= until) {
    now_ = next;
    step(next);
    if (events_sent_ != sent) return false;
    next = next_ns();
  }
  if (until != kNever) now_ = until;
  return true;
}

SimDevice::~SimDevice() = default;

int SimDevice::add_process(int queues) {
  if (!contexts_.empty() && sharing_ == Sharing::kTimeSliced && spec_.gpu.time_slice_us <= 0) {
    throw Error("processes cannot take turns on " + spec_.label + ": its time_slice_us is 0");
  }
  if (contexts_.empty() || sharing_ == Sharing::kTimeSliced) {
    contexts_.push_back(std::make_unique<Context>(spec_, models_.size(), timeline_));
  }
  processes_.push_back({static_cast<std::int32_t>(contexts_.size()) - 1,
                        static_cast<std::int32_t>(queues_.size()), queues});
  queues_.resize(queues_.size() + queues + spec_.gpu.graph_queues);
  return static_cast<int>(processes_.size()) - 1;
}

StreamId SimDevice::add_stream(int process, int priority) {
  QueueSet& p = processes_[process];
  Stream stream;
  stream.process = process;
  stream.queue = stream.graph_queue = p.first_queue + p.streams % p.queues;
  if (const std::int32_t graphs = spec_.gpu.graph_queues; graphs > 0) {
    stream.graph_queue = p.first_queue + p.queues + p.streams % graphs;
  }
  p.streams += 1;
  stream.priority = priority;
  streams_.push_back(stream);
  return static_cast<StreamId>(streams_.size()) - 1;
}

SimDevice::SimPort& SimDevice::add_port(int process, int notify_blocks) {
  ports_.push_back(std::unique_ptr<SimPort>(new SimPort(*this, process, notify_blocks, nullptr)));
  return *ports_.back();
}

SimDevice::SimPort& SimDevice::add_port(int process, SimPort& events_to) {
  ports_.push_back(std::unique_ptr<SimPort>(
      new SimPort(*this, process, events_to.notify_blocks_, &events_to)));
  return *ports_.back();
}

TimeNs SimDevice::next_ns() const {
  TimeNs next = timers_.empty() ? kNever : timers_.top().at;
  if (!contexts_.empty()) {
    const Context& c = *contexts_[active_];
    const TimeNs sm = c.sms.next_ns();
    if (sm != kNever) next = std::min(next, sm + c.idle_ns);
  }
  return next;
}

void SimDevice::step(TimeNs now) {
  const bool was_idle = !contexts_[active_]->has_work();
  while (!timers_.empty() && timers_.top().at == now) {
    const Timer timer = timers_.top();
    timers_.pop();
    switch (timer.kind) {
      case TimerKind::kArrive: arrive(timer.op, now); break;
      case TimerKind::kReady: make_ready(timer.op, now); break;
      case TimerKind::kCopyDone: {
        CopyEngine& engine = ops_[timer.op].kind == OpKind::kCopyIn ? copy_in_ : copy_out_;
        engine.queue.pop_front();
        engine.busy = false;
        complete(timer.op, now);
        start_copy(engine, now);
        break;
      }
      case TimerKind::kNoted: complete(timer.op, now); break;
      case TimerKind::kSlice:
        break;  // only makes this step happen
    }
  }
  Context& context = *contexts_[active_];
  const TimeNs local = now - context.idle_ns;
  finished_.clear();
  const std::size_t logged = timeline_ ? timeline_->blocks.size() : 0;
  context.sms.finish(local, finished_);
  if (timeline_) {
    for (std::size_t i = logged; i < timeline_->blocks.size(); ++i) {
      record::BlockSpan& span = timeline_->blocks[i];
      span.kernel = ops_[span.kernel].span;
    }
  }
  for (const auto& [run, blocks] : finished_) {
    Op& op = ops_[run];
    op.to_finish -= blocks;
    report(run, EventKind::kFinished, blocks, now);
    if (op.to_finish > 0) continue;
    --context.resident;
    const TimeNs ends = end_of_kernel(op, now);
    if (ends > now) {
      at(ends, TimerKind::kNoted, run);
    } else {
      complete(run, now);
    }
  }
  place_waiting(context, now);
  context.sms.settle(local);
  if (contexts_.size() == 1) return;
  if (was_idle && context.has_work()) begin_slice(now);
  if (now >= slice_end_ns_ || !context.has_work()) share_time(now);
}

void SimDevice::begin_slice(TimeNs now) {
  slice_end_ns_ = now + to_ns(spec_.gpu.time_slice_us);
  at(slice_end_ns_, TimerKind::kSlice, kNone);
}

// Rule 9: without MPS one process has the GPU at a time; the others' blocks stand still.
void SimDevice::share_time(TimeNs now) {
  const auto contexts = static_cast<std::int32_t>(contexts_.size());
  for (std::int32_t i = 1; i < contexts; ++i) {
    const std::int32_t next = (active_ + i) % contexts;
    Context& context = *contexts_[next];
    if (!context.has_work()) continue;
    // While a context stands still, idle_ns holds its own time.
    contexts_[active_]->idle_ns = now - contexts_[active_]->idle_ns;
    const TimeNs local = context.idle_ns;
    context.idle_ns = now - local;
    context.sms.set_idle(context.idle_ns);
    active_ = next;
    place_waiting(context, now);
    context.sms.settle(local);
    begin_slice(now);
    return;
  }
}

void SimDevice::at(TimeNs when, TimerKind kind, OpId op) {
  timers_.push({when, order_++, kind, op});
}

auto SimDevice::queue_of(const Op& op) -> std::deque<OpId>& {
  const Stream& stream = streams_[op.stream];
  return queues_[op.in_graph ? stream.graph_queue : stream.queue];
}

void SimDevice::arrive(OpId id, TimeNs now) {
  Op& op = ops_[id];
  Stream& stream = streams_[op.stream];
  if (op.kind == OpKind::kKernel) queue_of(op).push_back(id);
  if (stream.head == kNone) {
    stream.head = stream.tail = id;
    context_of(id).busy_streams += 1;
    reach_stream_head(id, now, false);
  } else {
    ops_[stream.tail].next = id;
    stream.tail = id;
  }
}

// Rule 1: an operation's turn comes when its predecessor in the stream has completed.
void SimDevice::reach_stream_head(OpId id, TimeNs now, bool follows_kernel) {
  Op& op = ops_[id];
  if (op.first) ++context_of(id).units[units_[op.slot].work.model];
  if (op.kind != OpKind::kKernel) {
    CopyEngine& engine = op.kind == OpKind::kCopyIn ? copy_in_ : copy_out_;
    engine.queue.push_back(id);
    start_copy(engine, now);
    return;
  }
  const GpuModel& gpu = spec_.gpu;
  double gap_us = gpu.ramp_us;
  if (follows_kernel) {
    const double own_us = !op.in_graph ? gpu.stream_gap_us
                          : op.first   ? gpu.graph_start_us
                                       : gpu.graph_gap_us;
    gap_us += context_of(id).busy_streams > 1 ? std::max(own_us, gpu.contended_gap_us) : own_us;
  }
  if (gap_us > 0) {
    at(now + to_ns(gap_us), TimerKind::kReady, id);
  } else {
    make_ready(id, now);
  }
}

void SimDevice::make_ready(OpId id, TimeNs now) {
  ops_[id].ready = true;
  if (queue_of(ops_[id]).front() == id) wait_for_sms(id, now);
}

void SimDevice::wait_for_sms(OpId id, TimeNs now) {
  context_of(id).waiting.push({streams_[ops_[id].stream].priority, order_++, id});
  if (timeline_) {
    const Op& op = ops_[id];
    const Unit& unit = units_[op.slot];
    ops_[id].span = static_cast<std::int32_t>(timeline_->kernels.size());
    timeline_->kernels.push_back({.job = unit.work.job,
                                  .model = unit.work.model,
                                  .kernel = op.kernel,
                                  .stream = op.stream,
                                  .eligible_ns = now});
  }
}

// Rule 8: one engine for each direction, first come, first served.
void SimDevice::start_copy(CopyEngine& engine, TimeNs now) {
  if (engine.busy || engine.queue.empty()) return;
  engine.busy = true;
  const OpId id = engine.queue.front();
  const ModelCost& cost = models_[units_[ops_[id].slot].work.model];
  at(now + (ops_[id].kind == OpKind::kCopyIn ? cost.copy_in_ns : cost.copy_out_ns),
     TimerKind::kCopyDone, id);
}

// Rules 3, 4, 7 and 11: blocks go out kernel by kernel, in the order in which the kernels reached
// the head of their hardware queues, higher priority first. A kernel whose blocks do not all find
// room holds up those behind it; a queue moves on when its head's blocks are all placed. One that may
// not become resident yet holds up only those that are not resident either.
void SimDevice::place_waiting(Context& context, TimeNs now) {
  const TimeNs local = now - context.idle_ns;
  while (!context.waiting.empty()) {
    const OpId id = context.waiting.top().op;
    Op& op = ops_[id];
    const bool starts = op.to_place == op.cost->blocks;
    if (starts && context.resident >= spec_.resident_kernels) {
      if (context.partly_placed == 0) break;
      held_.push_back(context.waiting.top());
      context.waiting.pop();
      continue;
    }
    const auto where = context.blocked == id ? SmArray::Where::kWhereBlocksFinished
                                             : SmArray::Where::kEverywhere;
    if (starts) op.work_ns = work_ns(context, op);
    const std::int64_t placed =
        context.sms.place(id, *op.cost, op.work_ns, op.to_place, local, where);
    if (placed > 0) {
      op.to_place -= placed;
      if (starts) {
        context.resident += 1;
        Unit& unit = units_[op.slot];
        if (unit.started_ns < 0) unit.started_ns = now;
      }
      report(id, EventKind::kPlaced, placed, now);
    }
    if (op.to_place > 0) {
      context.blocked = id;
      if (starts && placed > 0) ++context.partly_placed;
      break;
    }
    if (!starts) --context.partly_placed;
    context.blocked = kNone;
    context.waiting.pop();
    auto& queue = queue_of(op);
    queue.pop_front();
    if (!queue.empty() && ops_[queue.front()].ready) wait_for_sms(queue.front(), now);
  }
  for (const Waiting& kernel : held_) context.waiting.push(kernel);
  held_.clear();
}

// A working set that outgrows the L2 cache costs every kernel that starts now more work.
double SimDevice::work_ns(const Context& context, const Op& op) const {
  const Notify notify = units_[op.slot].work.notify;
  const double notes_ns = notify == Notify::kBlocks ? spec_.gpu.notes_work_us * 1e3 : 0;
  const double work_ns = op.cost->work_ns + notes_ns;
  if (spec_.gpu.cache_penalty == 0) return work_ns;
  double bytes = 0;
  for (std::size_t m = 0; m < models_.size(); ++m) {
    if (context.units[m] > 0) {
      bytes += models_[m].weights_bytes + context.units[m] * models_[m].arena_bytes;
    }
  }
  const ModelCost& own = models_[units_[op.slot].work.model];
  const double alone = std::max(spec_.l2_bytes, own.weights_bytes + own.arena_bytes);
  if (bytes <= alone) return work_ns;
  return work_ns * (1 + spec_.gpu.cache_penalty * std::log2(bytes / alone));
}

void SimDevice::complete(OpId id, TimeNs now) {
  Op& op = ops_[id];
  Stream& stream = streams_[op.stream];
  if (op.last) {
    Unit& unit = units_[op.slot];
    SimPort& port = *unit.port;
    const GpuModel& gpu = spec_.gpu;
    const bool kernel_reported = unit.work.notify == Notify::kBlocks && op.kind == OpKind::kKernel;
    if (!kernel_reported) {
      const Event done{.kind = EventKind::kFinished,
                       .unit = unit.work.id,
                       .done = true,
                       .started_ns = unit.started_ns};
      if (unit.work.notify == Notify::kUnit) {
        port.flag(now + to_ns(gpu.notify_latency_us), done);
      } else {
        const double latency_us = unit.work.notify == Notify::kBlocks ? gpu.callback_latency_us
                                                                      : gpu.query_latency_us;
        port.callbacks_.push_back({now + to_ns(latency_us), done});
        ++events_sent_;
      }
    }
    --context_of(id).units[unit.work.model];
    units_.give_back(op.slot);
  }
  stream.head = op.next;
  if (stream.head == kNone) {
    stream.tail = kNone;
    context_of(id).busy_streams -= 1;
  } else {
    reach_stream_head(stream.head, now, op.kind == OpKind::kKernel);
  }
  ops_.give_back(id);
}

std::vector<SmArray::Usage> SimDevice::usage() const { return contexts_[active_]->sms.usage(); }

DeviceCounters SimDevice::counters() const {
  DeviceCounters counters;
  for (const auto& context : contexts_) counters.block_groups += context->sms.groups_placed();
  return counters;
}

}  // namespace paella::gpu::sim
