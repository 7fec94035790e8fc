#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "paella/time.hpp"

// The one seam between the engine and a GPU, real or simulated. Nothing below it knows of
// policies; nothing above it knows which GPU it is.
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

}  // namespace paella::gpu
