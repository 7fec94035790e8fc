// The two rings between two threads on memory that both see at one address, for the thread
// sanitizer: slots are plain memory to their writer, so that a missing order is a race. With
// the bells as in production: each side sleeps in poll() and must be woken.

#include <poll.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "paella/ipc/rings.hpp"

using namespace paella::ipc;

namespace {

constexpr std::uint32_t kCapacity = 4;
alignas(64) char requests_memory[requests_bytes(kCapacity)];
alignas(64) char answers_memory[answers_bytes(kCapacity)];

void ring(int fd) {
  const char byte = 0;
  (void)!send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}
void hear(int fd) {
  pollfd p{fd, POLLIN, 0};
  if (poll(&p, 1, 60'000) == 0) std::puts("never woken"), std::exit(1);
  char bytes[16];
  (void)!recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::uint64_t count = std::strtoull(argv[1], nullptr, 10);
  auto* requests = new (requests_memory) RequestsHeader{};
  auto* answers = new (answers_memory) AnswersHeader{};
  int wake[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, wake) != 0) return 2;

  std::thread server([&] {
    ServerRings rings(requests, answers, kCapacity);
    for (std::uint64_t done = 0; done < count;) {
      RequestSlot request;
      if (rings.take(request) == ServerRings::Found::kRequest) {
        AnswerSlot answer{};
        answer.tag = request.tag;
        answer.finished_ns = static_cast<std::int64_t>(request.input_offset);
        rings.answer(answer);
        if (rings.client_sleeps()) ring(wake[0]);
        ++done;
        continue;
      }
      rings.set_asleep(true);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (!rings.has_request() && !rings.blocked()) hear(wake[0]);
      rings.set_asleep(false);
    }
  });

  auto* request_slots = reinterpret_cast<RequestSlot*>(requests_memory + kSlotsOffset);
  auto* answer_slots = reinterpret_cast<AnswerSlot*>(answers_memory + kSlotsOffset);
  std::uint64_t sent = 0, got = 0;
  while (got < count) {
    while (sent < count && sent - got < kCapacity) {
      RequestSlot& slot = request_slots[sent % kCapacity];
      slot = {};
      slot.tag = sent;
      slot.input_offset = sent * 3;
      requests->tail.store(++sent, std::memory_order_release);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (answers->asleep.load(std::memory_order_relaxed) != 0) ring(wake[1]);
    }
    const auto there = [&] { return answers->tail.load(std::memory_order_acquire) != got; };
    if (!there()) {
      requests->asleep.store(1, std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (!there()) hear(wake[1]);
      requests->asleep.store(0, std::memory_order_relaxed);
      continue;
    }
    const AnswerSlot answer = answer_slots[got % kCapacity];
    if (answer.tag != got || answer.finished_ns != static_cast<std::int64_t>(got * 3)) {
      return std::puts("wrong answer"), 1;
    }
    requests->answers_head.store(++got, std::memory_order_release);
  }
  server.join();
  std::puts("good");
}
