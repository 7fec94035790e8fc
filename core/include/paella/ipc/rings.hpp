#pragma once

#include <cstdint>

#include "paella/ipc/protocol.hpp"

namespace paella::ipc {

// The server's side of a client's two rings. Of what the client can write, each word is read once,
// and every position is checked against what it can be; the server's own positions are its own.
class ServerRings {
 public:
  enum class Found { kNothing, kRequest, kBroken };

  ServerRings(void* requests, void* answers, std::uint32_t capacity)
      : requests_(static_cast<RequestsHeader*>(requests)),
        answers_(static_cast<AnswersHeader*>(answers)),
        request_slots_(reinterpret_cast<RequestSlot*>(static_cast<char*>(requests) + kSlotsOffset)),
        answer_slots_(reinterpret_cast<AnswerSlot*>(static_cast<char*>(answers) + kSlotsOffset)),
        capacity_(capacity) {}

  // The next request, copied, if there is certainly room for its answer.
  Found take(RequestSlot& request) {
    const std::uint64_t waiting = requests_->tail.load(std::memory_order_acquire) - taken_;
    if (waiting == 0) return Found::kNothing;
    if (waiting > capacity_) return broken("its requests' tail is impossible");
    if (!room()) return broken_ ? Found::kBroken : Found::kNothing;
    copy(request_slots_[taken_ & (capacity_ - 1)], request);
    answers_->requests_head.store(++taken_, std::memory_order_release);
    return Found::kRequest;
  }

  // Of a request that was taken: there is room.
  void answer(const AnswerSlot& answer) {
    answer_slots_[answered_ & (capacity_ - 1)] = answer;
    answers_->tail.store(++answered_, std::memory_order_release);
  }

  // After answer(), or ahead of it: whether the client sleeps; it is to be woken then, once.
  bool client_sleeps() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return requests_->asleep.load(std::memory_order_relaxed) != 0 &&
           requests_->asleep.exchange(0, std::memory_order_relaxed) != 0;
  }

  // What take() would look at, without taking. True too where the tail is impossible.
  bool has_request() const {
    return requests_->tail.load(std::memory_order_acquire) != taken_ && may_have_room();
  }

  // Requests wait, and take() gives none of them until the client has read answers.
  bool blocked() const {
    return requests_->tail.load(std::memory_order_relaxed) != taken_ && !may_have_room();
  }

  void set_asleep(bool asleep) { answers_->asleep.store(asleep ? 1 : 0, std::memory_order_relaxed); }

  // Requests written up to now, as far as that can be.
  std::uint64_t tail() const {
    const std::uint64_t tail = requests_->tail.load(std::memory_order_acquire);
    return tail - taken_ <= capacity_ ? tail : taken_;
  }
  std::uint64_t taken() const { return taken_; }
  std::uint64_t answered() const { return answered_; }
  const char* why_broken() const { return broken_; }

 private:
  Found broken(const char* why) {
    broken_ = why;
    return Found::kBroken;
  }

  // Answers that are owed have their place: so many requests are taken, and no more, as there are
  // answers that the client has read, and the ring's capacity.
  bool room() {
    if (taken_ - answers_head_ < capacity_) return true;
    const std::uint64_t head = requests_->answers_head.load(std::memory_order_acquire);
    if (head - answers_head_ > answered_ - answers_head_) {
      broken_ = "its answers' head is impossible";
      return false;
    }
    answers_head_ = head;
    return taken_ - answers_head_ < capacity_;
  }
  bool may_have_room() const {
    return taken_ - answers_head_ < capacity_ ||
           requests_->answers_head.load(std::memory_order_relaxed) != answers_head_;
  }

  // Word by word, each once: the client may be writing to it.
  static void copy(const RequestSlot& from, RequestSlot& to) {
    constexpr std::size_t kWords = sizeof(RequestSlot) / sizeof(std::uint64_t);
    const auto* source = reinterpret_cast<const Word*>(&from);
    auto* target = reinterpret_cast<Word*>(&to);
    for (std::size_t i = 0; i < kWords; ++i) target[i] = __atomic_load_n(source + i, __ATOMIC_RELAXED);
  }
  using Word = std::uint64_t __attribute__((may_alias));

  RequestsHeader* requests_;
  AnswersHeader* answers_;
  RequestSlot* request_slots_;
  AnswerSlot* answer_slots_;
  const std::uint32_t capacity_;
  std::uint64_t taken_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t answers_head_ = 0;  // as last seen
  const char* broken_ = nullptr;
};

}  // namespace paella::ipc
