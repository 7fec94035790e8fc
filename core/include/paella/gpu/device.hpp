#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "paella/plan/launch_plan.hpp"
#include "paella/plan/model.hpp"
#include "paella/time.hpp"

// The one seam between the engine and a GPU: real (cuda/), simulated (sim/) or none (null/). Nothing
// below it knows of policies; nothing above it knows which GPU it is.
namespace paella::gpu {

using StreamId = std::int32_t;
using UnitId = std::int32_t;

// How finely the host wants to be told of a unit's progress.
enum class Notify {
  kBlocks,  // placed and finished blocks in batches, copies by host callback (instrumented kernels)
  kUnit,    // once, when the unit's last operation is done
  kStream,  // once, when the stream is seen idle by a query
};

// What one dispatch asks of a stream, in this order: copy in, kernels [first, last), copy out.
struct WorkUnit {
  UnitId id = 0;  // the caller's; comes back in events
  std::int32_t job = -1;  // for the record only
  std::int32_t model = 0;
  std::int32_t first_kernel = 0;
  std::int32_t last_kernel = 0;
  bool copy_in = false;
  bool copy_out = false;
  bool as_graph = false;
  Notify notify = Notify::kUnit;
  bool notify_call = true;  // kUnit costs a driver call: the kernels cannot tell by themselves
  // The copies' other ends are a client's, and not the device's own. A simulated GPU computes
  // nothing and looks at neither.
  bool of_client = false;
  const void* input = nullptr;
  void* output = nullptr;

  bool empty() const { return first_kernel == last_kernel && !copy_in && !copy_out; }
};

enum class EventKind { kPlaced, kFinished, kFailed };

struct Event {
  EventKind kind = EventKind::kFinished;
  UnitId unit = 0;
  std::int32_t messages = 1;   // notifications that make up this event
  std::int64_t blocks = 0;     // newly placed or finished
  bool done = false;           // the unit's last operation is done
  TimeNs started_ns = -1;      // with done: start of the unit's first kernel, -1 if unknown
  TimeNs at_ns = -1;           // with done: when the host could see it, -1 for now
};

// One host thread's view of a device. On hardware time passes by itself; a simulated port has a
// clock that its own calls move on.
class Port {
 public:
  virtual ~Port() = default;
  virtual TimeNs now() const = 0;
  // Issues the unit's operations in order; returns when the calls have returned.
  virtual void submit(StreamId stream, const WorkUnit& unit) = 0;
  // Appends the events that the host can see by now.
  virtual void poll(std::vector<Event>& events) = 0;
  // Accounts for CPU time of the thread outside the driver; hardware needs no accounting.
  virtual void spend(double us) = 0;
  // CPU time that the thread has used.
  virtual double busy_us() const = 0;
  // Earliest time at which an event may be visible: kNever if none is under way, now() where the
  // device cannot tell.
  virtual TimeNs next_event_ns() const = 0;
  // Returns at `until`, which may be past.
  virtual void idle_until(TimeNs until) = 0;
};

// What a process that uses the device consists of.
struct ProcessSpec {
  std::int32_t streams = 1;
  std::int32_t hardware_queues = 32;  // CUDA_DEVICE_MAX_CONNECTIONS; a real one's is its environment's
  std::int32_t notify_blocks = 1;     // notifications of so many blocks make one message
  // Threads that only submit, while one more hears of the ends; 0: one thread does both.
  std::int32_t issuing_threads = 0;
  int watcher_cpu = -1;         // where the thread that looks for ends runs; -1 is any
  std::vector<WorkUnit> units;  // that will be submitted as graphs, of the models installed
};

struct Process {
  std::vector<StreamId> streams;
  Port* port = nullptr;         // of the thread that hears of the ends
  std::vector<Port*> issuing;   // of those that only submit
};

struct ModelSpec {
  plan::Model model;
  std::int32_t instances = 1;                   // jobs of it that may be in flight
  std::optional<plan::LaunchPlan> launch_plan;  // for a real GPU
  std::vector<WorkUnit> units;                  // that will be submitted as graphs
};

// What a device has counted since it was prepared last.
struct DeviceCounters {
  std::int64_t block_groups = 0;     // simulated: events of the GPU model
  std::int64_t outputs_checked = 0;  // real: outputs compared with those of the model alone
  std::vector<double> handoffs_us;   // real: from a unit's end, as seen, to the next unit issued
};

// A GPU, or what stands for one. One thread at a time uses it, inside enter(); load(), unload() and
// memories are for a second one.
class Device {
 public:
  virtual ~Device() = default;

  // Held by a thread while it uses the device.
  class Entered {
   public:
    virtual ~Entered() = default;
  };
  virtual std::unique_ptr<Entered> enter() { return nullptr; }

  // ---- Models. load() takes long; install() and remove() do not.
  class Loaded {
   public:
    virtual ~Loaded() = default;
  };
  virtual std::unique_ptr<Loaded> load(ModelSpec model) = 0;
  // Units may name the model by this index from now on.
  virtual void install(std::int32_t index, std::unique_ptr<Loaded> loaded) = 0;
  // No unit names it any more.
  virtual std::unique_ptr<Loaded> remove(std::int32_t index) = 0;
  virtual void unload(std::unique_ptr<Loaded> loaded) { loaded.reset(); }
  // Memory of a client that copies may name.
  virtual void add_memory(void*, std::size_t) {}
  virtual void remove_memory(void*) {}

  // ---- Before the clock starts. Streams and ports are valid until the next process is prepared on
  // a real GPU, and as long as the device on a simulated one, which may have several processes.
  virtual Process prepare(const ProcessSpec& process) = 0;
  // Time 0 is `origin_ns` of CLOCK_MONOTONIC; virtual time begins at 0 by itself.
  virtual void start_clock(TimeNs) {}

  // ---- Time.
  virtual TimeNs now() const = 0;
  // Lets time pass. In virtual time up to `until`, or until the host is told something: false then,
  // because what was to happen at `until` may not be what is next. On the wall clock the present
  // comes, and `until` may be in the future still.
  virtual bool tick(TimeNs until) = 0;

  // ---- Health.
  // Whether units are on it.
  virtual bool busy() const = 0;
  // While busy, once a turn. Throws Error if the device has failed, or finishes nothing for long.
  virtual void check_health() {}
  // Whether there was something to do that can wait, and one such thing is done. Throws Error if
  // the output of a job is wrong.
  virtual bool use_spare_time() { return false; }
  // How much of the thread's time so far went into calls of the driver.
  virtual TimeNs driver_ns() const { return 0; }
  virtual DeviceCounters counters() const { return {}; }
};

}  // namespace paella::gpu
