#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <queue>
#include <vector>

#include "paella/gpu/device.hpp"
#include "paella/gpu/sim/sm_array.hpp"
#include "paella/gpu/sim/kernel_cost.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"
#include "paella/record/timeline.hpp"
#include "paella/slots.hpp"

namespace paella::gpu::sim {

// What the simulated GPU charges for a model's copies and kernels.
struct ModelCost {
  std::vector<KernelCost> kernels;
  TimeNs copy_in_ns = 0;
  TimeNs copy_out_ns = 0;
  double weights_bytes = 0;
  double arena_bytes = 0;
};

// How the processes of a run share the GPU.
enum class Sharing {
  kMps,         // one process, or several whose kernels run side by side
  kTimeSliced,  // several processes in exclusive time slices (rule 9)
};

// A GPU in virtual time. Deterministic: the same calls give the same events. The rules that it
// follows are numbered in docs/gpu-model.md.
class SimDevice : public Device {
 public:
  // `timeline` may be null.
  SimDevice(const DeviceSpec& device, const DeviceSpec& reference, Sharing sharing,
            record::Timeline* timeline);
  ~SimDevice() override;
  SimDevice(const SimDevice&) = delete;
  SimDevice& operator=(const SimDevice&) = delete;

  std::unique_ptr<Loaded> load(ModelSpec model) override;
  void install(std::int32_t index, std::unique_ptr<Loaded> loaded) override;
  std::unique_ptr<Loaded> remove(std::int32_t) override { return std::make_unique<Loaded>(); }
  Process prepare(const ProcessSpec& process) override;
  TimeNs now() const override { return now_; }
  bool tick(TimeNs until) override;
  // Whether anything will still happen by itself.
  bool busy() const override { return next_ns() != kNever; }
  DeviceCounters counters() const override;

  // ---- What prepare() and tick() are made of, for what needs them one by one.

  void add_models(const std::vector<plan::Model>& models);
  // A process has its own hardware queues, `queues` of them (CUDA_DEVICE_MAX_CONNECTIONS).
  int add_process(int queues);
  // Streams map onto the process's queues in the order of their creation (rule 2). A lower
  // `priority` number is served first, as in CUDA.
  StreamId add_stream(int process, int priority = 0);
  // A host thread of the process, its clock at 0. Valid as long as the device. Notes of
  // `notify_blocks` blocks make one message (Notify::kBlocks).
  class SimPort;
  SimPort& add_port(int process, int notify_blocks);
  // A thread whose units' events another thread polls.
  SimPort& add_port(int process, SimPort& events_to);

  // Time of the next thing that happens on the GPU; kNever if nothing will by itself.
  TimeNs next_ns() const;
  // Lets everything due at `now` happen, which must be next_ns().
  void step(TimeNs now);

  const ModelCost& cost(int model) const { return models_[model]; }
  std::vector<SmArray::Usage> usage() const;

 private:
  using OpId = std::int32_t;
  static constexpr OpId kNone = -1;

  enum class OpKind : std::uint8_t { kCopyIn, kKernel, kCopyOut };
  struct Op {
    OpKind kind = OpKind::kKernel;
    bool in_graph = false;
    bool ready = false;  // its turn in its stream has come, gap included
    bool first = false;  // of its unit
    bool last = false;
    std::int32_t slot = 0;    // unit
    std::int32_t kernel = 0;  // in its model
    StreamId stream = 0;
    OpId next = kNone;  // in its stream
    const KernelCost* cost = nullptr;
    double work_ns = 0;  // of a block
    std::int64_t to_place = 0;
    std::int64_t to_finish = 0;
    std::int64_t unreported_placed = 0, unreported_finished = 0;  // below one batch
    std::int32_t span = -1;  // in the timeline
  };
  struct Unit {
    WorkUnit work;
    SimPort* port;
    TimeNs started_ns;
  };
  struct Stream {
    std::int32_t process;
    std::int32_t queue, graph_queue;  // of what is launched by itself, and in graphs
    std::int32_t priority;
    bool used = false;
    OpId head = kNone, tail = kNone;
  };
  struct QueueSet {  // of a process
    std::int32_t context;
    std::int32_t first_queue;
    std::int32_t queues;  // and those of graphs behind them
    std::int32_t streams = 0;
  };
  struct Waiting {  // a kernel at the head of its hardware queue, its turn in its stream come
    std::int32_t priority;
    std::int64_t order;
    OpId op;
    bool operator>(const Waiting& o) const {
      return priority != o.priority ? priority > o.priority : order > o.order;
    }
  };
  struct Context {  // what runs side by side: one process, or all under MPS
    Context(const DeviceSpec& spec, std::size_t models, record::Timeline* timeline)
        : sms(spec.sm, timeline), units(models, 0) {}

    SmArray sms;
    std::priority_queue<Waiting, std::vector<Waiting>, std::greater<>> waiting;
    OpId blocked = kNone;       // head of `waiting` that found no room
    std::int32_t resident = 0;  // kernels with blocks on the SMs
    std::int32_t partly_placed = 0;  // of them, those in `waiting`
    std::int32_t busy_streams = 0;
    std::vector<std::int32_t> units;  // on the GPU, of each model
    TimeNs idle_ns = 0;         // global time minus the context's own
    bool has_work() const { return resident > 0 || !waiting.empty(); }
  };
  enum class TimerKind : std::uint8_t { kArrive, kReady, kCopyDone, kNoted, kSlice };
  struct Timer {
    TimeNs at;
    std::int64_t order;
    TimerKind kind;
    OpId op;
    bool operator>(const Timer& o) const { return at != o.at ? at > o.at : order > o.order; }
  };
  struct CopyEngine {
    std::deque<OpId> queue;
    bool busy = false;
  };

  void submit(SimPort& port, StreamId stream, const WorkUnit& work);
  void at(TimeNs when, TimerKind kind, OpId op);
  std::deque<OpId>& queue_of(const Op& op);
  void arrive(OpId op, TimeNs now);
  void reach_stream_head(OpId op, TimeNs now, bool follows_kernel);
  void make_ready(OpId op, TimeNs now);
  void wait_for_sms(OpId op, TimeNs now);
  void start_copy(CopyEngine& engine, TimeNs now);
  double work_ns(const Context& context, const Op& op) const;
  void complete(OpId op, TimeNs now);
  void place_waiting(Context& context, TimeNs now);
  void report(OpId op, EventKind kind, std::int64_t blocks, TimeNs now);
  TimeNs end_of_kernel(const Op& op, TimeNs now) const;
  void begin_slice(TimeNs now);
  void share_time(TimeNs now);
  Context& context_of(OpId op) { return *contexts_[processes_[streams_[ops_[op].stream].process].context]; }

  DeviceSpec spec_, reference_;
  Sharing sharing_;
  record::Timeline* timeline_;
  std::vector<ModelCost> models_;
  std::vector<QueueSet> processes_;
  std::vector<Stream> streams_;
  std::vector<std::deque<OpId>> queues_;
  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<std::unique_ptr<SimPort>> ports_;
  Slots<Op> ops_;
  Slots<Unit> units_;
  CopyEngine copy_in_, copy_out_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::vector<SmArray::Finished> finished_;
  std::vector<Waiting> held_;
  std::int64_t order_ = 0;
  std::int32_t active_ = 0;  // context whose time slice it is
  TimeNs slice_end_ns_ = 0;
  TimeNs now_ = 0;  // of tick()
  std::int64_t events_sent_ = 0;
  double channel_free_us_ = 0;  // of the notifications' way to the host
};

// The host thread's view: its clock moves on by what its calls cost.
class SimDevice::SimPort : public Port {
 public:
  TimeNs now() const override { return static_cast<TimeNs>(clock_ns_); }
  void submit(StreamId stream, const WorkUnit& unit) override;
  void poll(std::vector<Event>& events) override;
  void spend(double us) override {
    clock_ns_ += us * 1e3;
    busy_us_ += us;
  }
  TimeNs next_event_ns() const override;
  void idle_until(TimeNs until) override;
  double busy_us() const override { return busy_us_; }

 private:
  friend class SimDevice;
  struct Visible {
    TimeNs at;
    Event event;
  };
  SimPort(SimDevice& device, int process, int notify_blocks, SimPort* events_to)
      : device_(device),
        process_(process),
        notify_blocks_(notify_blocks),
        events_to_(events_to ? events_to : this) {}

  void flag(TimeNs at, const Event& event);

  SimDevice& device_;
  int process_;
  int notify_blocks_;
  SimPort* events_to_;
  double clock_ns_ = 0;
  double busy_us_ = 0;
  std::deque<Visible> flags_;      // written by blocks; in order of time
  std::deque<Visible> callbacks_;  // slower, in order of time among themselves
};

}  // namespace paella::gpu::sim
