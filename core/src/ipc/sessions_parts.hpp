#pragma once

#include <memory>
#include <vector>

#include "paella/ipc/sessions.hpp"
#include "session.hpp"

namespace paella::ipc {

struct Sessions::Model {
  ModelSizes sizes;
  std::uint32_t wire_id = 0;
  bool accepting = true;
  std::int32_t free = 0;          // instances
  std::int64_t jobs = 0;          // waiting, ready or taken
  std::deque<std::int32_t> turn;  // sessions with jobs that wait, each once
  Count taken, finished, failed, waiting;
  Latencies latencies;
};

struct Sessions::Job {
  std::int32_t session;
  std::int32_t model;
  std::uint64_t tag;
  const char* input;
  char* output;
  TimeNs due_ns;
  TimeNs taken_ns;
  TimeNs submitted_ns;
};

struct Sessions::Command {
  enum class Kind { kAttach, kDetach, kMemory, kAddModel, kRemoveModel, kReleaseModel, kStop };
  Kind kind;
  std::int32_t id = -1;
  std::unique_ptr<Session> session{};
  std::unique_ptr<Model> model{};
  MemoryView memory{};
};

// Of one client: everything mapped, until the serving thread has handed it back.
struct Sessions::Owned {
  Segment requests, answers;
  std::vector<Segment> memories;
  std::uint64_t bytes = 0;
  bool detached = false;
};

}  // namespace paella::ipc
