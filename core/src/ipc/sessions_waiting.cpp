// When the serving thread and its clients sleep, and what wakes them up.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "paella/clock.hpp"
#include "sessions_parts.hpp"

namespace paella::ipc {
namespace {

constexpr TimeNs kGraceNs = 200'000'000;
constexpr TimeNs kLookAgainNs = 1'000'000;

constexpr auto later = [](const auto& a, const auto& b) { return a.at_ns > b.at_ns; };

}  // namespace

void Sessions::almost_finished(const request::Request& request, TimeNs expected_end_ns) {
  const Job& job = jobs_[request.job];
  const Session& session = *sessions_[static_cast<std::size_t>(job.session)];
  if (session.lead_ns == 0 || session.leaving) return;
  wakes_.push_back({expected_end_ns - session.lead_ns, job.session, session.generation});
  std::push_heap(wakes_.begin(), wakes_.end(), later);
}

void Sessions::wake_early(TimeNs now) {
  while (!wakes_.empty() && wakes_.front().at_ns <= now) {
    const Wake wake = wakes_.front();
    std::pop_heap(wakes_.begin(), wakes_.end(), later);
    wakes_.pop_back();
    Session* session = sessions_[static_cast<std::size_t>(wake.session)].get();
    if (session && session->generation == wake.generation && !session->leaving) session->wake();
  }
}

bool Sessions::something_new() const {
  if (!ready_.empty() || commanded_.load(std::memory_order_acquire)) return true;
  return std::any_of(live_.begin(), live_.end(), [&](std::int32_t id) {
    return sessions_[static_cast<std::size_t>(id)]->rings.has_request();
  });
}

TimeNs Sessions::next_due_ns() const {
  if (something_new()) return 0;
  return wakes_.empty() ? kNever : wakes_.front().at_ns;
}

// A client that reads no answers is not waited for, but for a moment.
bool Sessions::done() const {
  if (!stopping_ || outstanding_ > 0 || commanded_.load(std::memory_order_acquire)) return false;
  bool blocked = false;
  for (const std::int32_t id : live_) {
    const Session& session = *sessions_[static_cast<std::size_t>(id)];
    if (session.rings.taken() >= session.last_request) continue;
    if (session.rings.has_request()) return false;
    blocked = true;
  }
  return !blocked || monotonic_ns() > stopped_ns_ + kGraceNs;
}

void Sessions::idle_wait(TimeNs deadline_ns) {
  set_asleep(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!something_new()) {
    if (!wakes_.empty()) deadline_ns = std::min(deadline_ns, wakes_.front().at_ns);
    const TimeNs now = monotonic_ns();
    // A client whose answers' ring was full does not ring when it has read some.
    const bool blocked = std::any_of(live_.begin(), live_.end(), [&](std::int32_t id) {
      return sessions_[static_cast<std::size_t>(id)]->rings.blocked();
    });
    if (blocked) deadline_ns = std::min(deadline_ns, now + kLookAgainNs);
    const TimeNs left = std::max<TimeNs>(deadline_ns == kNever ? kNever : deadline_ns - now, 0);
    const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
    pollfd fd{epoll_.get(), POLLIN, 0};
    ppoll(&fd, 1, deadline_ns == kNever ? nullptr : &timeout, nullptr);
  }
  set_asleep(false);
  hear_bells();
}

void Sessions::set_asleep(bool asleep) {
  for (const std::int32_t id : live_) {
    sessions_[static_cast<std::size_t>(id)]->rings.set_asleep(asleep);
  }
}

void Sessions::hear_bells() {
  epoll_event events[64];
  const int count = epoll_wait(epoll_.get(), events, 64, 0);
  for (int i = 0; i < count; ++i) {
    const int id = events[i].data.fd;
    if (id < 0) {
      std::uint64_t rung;
      (void)!read(doorbell_.get(), &rung, sizeof rung);
      continue;
    }
    char bytes[4096];
    const int fd = sessions_[static_cast<std::size_t>(id)]->wake_descriptor();
    if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) == 0 || events[i].events & EPOLLHUP) {
      broken(id, "it has closed its wake socket");
    }
  }
}

}  // namespace paella::ipc
