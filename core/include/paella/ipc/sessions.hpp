#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "paella/request/requests.hpp"
#include "paella/ipc/latency.hpp"
#include "paella/ipc/protocol.hpp"
#include "paella/ipc/segment.hpp"
#include "paella/slots.hpp"

namespace paella::ipc {

struct Limits {
  std::uint32_t capacity = 256;  // of each ring, hence requests of a client inside the server
  std::int32_t sessions = 1024;
  std::int32_t memories = 64;                       // of a session
  std::uint64_t session_bytes = std::uint64_t{1} << 30;  // of a session's memories
  std::uint64_t total_bytes = std::uint64_t{8} << 30;    // of all memories
};

struct ModelSizes {
  std::uint64_t input_bytes = 0;
  std::uint64_t output_bytes = 0;
  std::int32_t instances = 1;    // jobs of it at a time
  bool computes_outputs = true;  // else its answers say that there is none
  bool empty = false;            // nothing to do: answered when taken, never given to take()
};

// What the control thread has to hear from the serving thread.
struct Notice {
  enum class Kind {
    kBroken,   // a session broke the protocol: `why`; it is to be detached
    kGone,     // a detached session has no jobs left, and its memory is handed back
    kDrained,  // a removed model has no jobs left
  };
  Kind kind;
  std::int32_t id;
  std::string why;
};

struct Attached {
  std::int32_t session;
  Welcome welcome;
  Descriptor requests, answers, wake;  // the client's
};

struct ModelStats {
  std::int32_t id;  // index
  std::int64_t taken, finished, failed, waiting, in_flight;
  Latencies::Snapshot latencies;  // from taken to finished
};

struct SessionStats {
  std::int32_t id;
  std::int64_t taken, answered, refused;
  std::uint64_t memory_bytes;
};

struct Stats {
  std::vector<ModelStats> models;
  std::vector<SessionStats> sessions;
};

// The low bits of what clients call a model; above is how many were there before it.
inline constexpr std::uint32_t kModelIndexBits = 12;
inline constexpr std::uint32_t kModelIndexMask = (1u << kModelIndexBits) - 1;

class Session;  // of the serving thread

// The clients of a server in other processes, as a source of requests. Two threads use it: the
// control thread, which hears of clients that come and go, and the serving thread. Nothing that a
// client wrote is trusted: it is copied once, and checked.
class Sessions : public request::Requests {
 public:
  explicit Sessions(Limits limits);
  ~Sessions() override;

  // ---- Control thread. Error, in a sentence for the client, where a limit is reached.

  Attached attach(std::uint32_t lead_ns);
  // Nothing more is read from it; its jobs end unheard. Its memory stays until kGone.
  void detach(std::int32_t session);
  // A memory's id and its descriptor, for the client.
  std::pair<std::uint32_t, Descriptor> add_memory(std::int32_t session, std::uint64_t bytes);
  // Its index, which requests given to take() carry as their model. Indices are small and reused.
  std::int32_t add_model(const ModelSizes& sizes);
  // What clients call it: not the same again for another model before a million have come and gone.
  std::uint32_t wire_id(std::int32_t model) const;
  // New requests are refused, those taken are finished; then there is a notice kDrained.
  void remove_model(std::int32_t model);
  // After kDrained: the index may be used again.
  void release_model(std::int32_t model);
  // Orderly: what clients have sent up to now is served, what they send from now on refused.
  void stop();
  // Told of every memory after it is mapped and before it is unmapped, on the control thread. May
  // throw Error when one is added: the client is told, and gets none.
  using MemoryObserver = std::function<void(void* data, std::size_t bytes, bool added)>;
  void set_memory_observer(MemoryObserver observer) { observer_ = std::move(observer); }

  // Readable when there are notices.
  int notice_descriptor() const { return notice_bell_.get(); }
  std::vector<Notice> notices();
  Stats stats() const;
  const Limits& limits() const { return limits_; }

  // Any thread: ends the serving thread's idle_wait().
  void ring();

  // ---- Serving thread. Times are CLOCK_MONOTONIC's.

  // 0: at once; else the next wake-up of a client; kNever: when somebody rings.
  TimeNs next_due_ns() const override;
  // Input and output are valid until finished() or failed(), whatever becomes of the client.
  bool take(TimeNs now, request::Request& request) override;
  void submitted(const request::Request& request, TimeNs now) override;
  void finished(const request::Request& request, TimeNs started_ns, TimeNs answered_ns) override;
  bool done() const override;
  TimeNs start_ns() const override { return 0; }

  const ModelSizes& sizes(const request::Request& request) const;
  // The job's last unit is on the GPU: clients that asked for it are woken ahead of the answer.
  void almost_finished(const request::Request& request, TimeNs expected_end_ns) override;
  // Instead of finished().
  void failed(const request::Request& request, Status status);
  // Everything that waits, and everything that comes from now on, is answered with this.
  void refuse_all(Status status);
  // Sleeps until a client or ring() wakes it, until `deadline_ns`, or not at all where there is
  // something to do. Only when next_due_ns() is in the future and nothing is in flight.
  void idle_wait(TimeNs deadline_ns);

 private:
  struct Model;
  struct Job;
  struct Wake {  // of a client ahead of its answer
    TimeNs at_ns;
    std::int32_t session;
    std::uint32_t generation;
  };
  struct Command;
  struct Owned;  // of the control thread

  void post(Command command);
  void apply_commands();
  void apply(Command& command);
  void leave(std::int32_t session);
  void unread(std::int32_t session);
  void drop_waiting(std::int32_t session, Status status);
  void forget_if_over(std::int32_t session);
  void broken(std::int32_t session, const char* why);
  void tell(Notice notice);
  void accept(std::int32_t session, const RequestSlot& slot, TimeNs now);
  Status check(const Session& session, const RequestSlot& slot, Job& job) const;
  void end(std::int32_t job, Status status, TimeNs started_ns, TimeNs finished_ns);
  void release_instance(std::int32_t model);
  void wake_early(TimeNs now);
  bool something_new() const;
  void set_asleep(bool asleep);
  void hear_bells();

  const Limits limits_;

  // Control thread.
  MemoryObserver observer_;
  std::vector<std::unique_ptr<Owned>> owned_;  // by session
  std::uint64_t total_bytes_ = 0;
  std::vector<std::uint32_t> generations_;  // by model
  std::vector<bool> model_used_;

  // Both.
  std::mutex mutex_;
  std::vector<Command> commands_;
  std::atomic<bool> commanded_{false};
  std::vector<Notice> notices_;
  Descriptor notice_bell_, doorbell_, epoll_;
  mutable std::mutex stats_mutex_;  // of the tables' shape, not of the numbers

  // Serving thread.
  std::vector<std::unique_ptr<Session>> sessions_;  // by number, null where there is none
  std::vector<std::int32_t> live_;                  // those that are read, in turn
  std::size_t turn_ = 0;
  std::vector<std::unique_ptr<Model>> models_;
  Slots<Job> jobs_;
  std::int64_t outstanding_ = 0;  // jobs
  std::deque<std::int32_t> ready_;
  std::vector<Wake> wakes_;  // a heap
  std::uint32_t generation_ = 0;  // of the session attached last
  bool stopping_ = false;
  TimeNs stopped_ns_ = 0;
  Status refusing_ = Status::kOk;
};

}  // namespace paella::ipc
