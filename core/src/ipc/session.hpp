#pragma once

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

#include "paella/ipc/rings.hpp"
#include "paella/ipc/segment.hpp"
#include "paella/time.hpp"

namespace paella::ipc {

// A number with one writer that others may read at any time.
class Count {
 public:
  void operator+=(std::int64_t by) { n_.store(get() + by, std::memory_order_relaxed); }
  void operator++() { *this += 1; }
  void operator--() { *this += -1; }
  std::int64_t get() const { return n_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> n_{0};
};

struct MemoryView {
  char* data;
  std::uint64_t bytes;
};

// What the serving thread knows of a client.
class Session {
 public:
  Session(ServerRings with, Descriptor wake, TimeNs lead)
      : rings(with), lead_ns(lead), wake_(std::move(wake)) {}

  void answer(const AnswerSlot& slot) {
    rings.answer(slot);
    ++answered;
    wake();
  }
  // Never blocks, whatever the client has done to its end; a full socket wakes it as well.
  void wake() {
    if (!rings.client_sleeps()) return;
    const char byte = 0;
    (void)!send(wake_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  int wake_descriptor() const { return wake_.get(); }

  ServerRings rings;
  TimeNs lead_ns;
  std::uint64_t last_request = 0;           // when stopping: later ones are refused
  std::vector<MemoryView> memories;         // by id
  std::vector<std::deque<std::int32_t>> waiting;  // jobs, by model
  std::int32_t outstanding = 0;             // jobs
  bool leaving = false;
  std::uint32_t generation = 0;
  Count taken, answered, refused;

 private:
  Descriptor wake_;
};

}  // namespace paella::ipc
