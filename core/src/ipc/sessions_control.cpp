// What the control thread does with sessions.

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "paella/error.hpp"
#include "sessions_parts.hpp"

namespace paella::ipc {
namespace {

constexpr std::size_t kMaxModels = kModelIndexMask + 1;
constexpr std::uint64_t kPage = 4096;

Descriptor opened(int fd) {
  if (fd < 0) throw Error(std::string("the server can open nothing more: ") + std::strerror(errno));
  return Descriptor(fd);
}

void add_one(const Descriptor& bell) {
  const std::uint64_t one = 1;
  (void)!write(bell.get(), &one, sizeof one);
}

std::string mib(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

Sessions::Sessions(Limits limits)
    : limits_(limits),
      notice_bell_(opened(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
      doorbell_(opened(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
      epoll_(opened(epoll_create1(EPOLL_CLOEXEC))) {
  if (limits.capacity == 0 || limits.capacity > 65536 ||
      (limits.capacity & (limits.capacity - 1)) != 0) {
    throw Error("a ring's capacity is a power of two of at most 65536");
  }
  if (limits.sessions < 1 || limits.memories < 0) throw Error("limits of sessions are positive");
  owned_.resize(static_cast<std::size_t>(limits.sessions));
  sessions_.resize(owned_.size());
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = -1;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, doorbell_.get(), &event);
}

Sessions::~Sessions() {
  for (const auto& owned : owned_) {
    if (!owned || !observer_) continue;
    for (const Segment& memory : owned->memories) observer_(memory.data(), memory.bytes(), false);
  }
}

void Sessions::post(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  commanded_.store(true, std::memory_order_release);
  ring();
}

void Sessions::ring() { add_one(doorbell_); }

Attached Sessions::attach(std::uint32_t lead_ns) {
  std::size_t id = 0;
  while (id < owned_.size() && owned_[id]) ++id;
  if (id == owned_.size()) {
    throw Error("the server has as many clients as it takes, " + std::to_string(owned_.size()));
  }
  const std::uint32_t capacity = limits_.capacity;
  auto owned = std::make_unique<Owned>(
      Owned{.requests = Segment(requests_bytes(capacity), Segment::Access::kBoth),
            .answers = Segment(answers_bytes(capacity), Segment::Access::kServerWrites),
            .memories = {}});
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) opened(-1);
  Descriptor mine(pair[0]), wake(pair[1]);
  constexpr TimeNs kLongestLeadNs = 100'000'000;
  auto session = std::make_unique<Session>(
      ServerRings(owned->requests.data(), owned->answers.data(), capacity), std::move(mine),
      std::min<TimeNs>(lead_ns, kLongestLeadNs));
  Attached attached{.session = static_cast<std::int32_t>(id),
                    .welcome = {.session = static_cast<std::uint32_t>(id),
                                .capacity = capacity,
                                .requests_bytes = owned->requests.bytes(),
                                .answers_bytes = owned->answers.bytes()},
                    .requests = owned->requests.take_descriptor(),
                    .answers = owned->answers.take_descriptor(),
                    .wake = std::move(wake)};
  owned_[id] = std::move(owned);
  post({Command::Kind::kAttach, attached.session, std::move(session)});
  return attached;
}

void Sessions::detach(std::int32_t session) {
  Owned* owned = owned_.at(static_cast<std::size_t>(session)).get();
  if (!owned || owned->detached) return;
  owned->detached = true;
  post({Command::Kind::kDetach, session});
}

std::pair<std::uint32_t, Descriptor> Sessions::add_memory(std::int32_t session,
                                                          std::uint64_t bytes) {
  Owned* owned = owned_.at(static_cast<std::size_t>(session)).get();
  if (!owned || owned->detached) throw Error("the session is over");
  if (bytes == 0) throw Error("a memory has at least one byte");
  if (owned->memories.size() >= static_cast<std::size_t>(limits_.memories)) {
    throw Error("a client has at most " + std::to_string(limits_.memories) + " memories");
  }
  if (bytes > limits_.session_bytes || owned->bytes + bytes > limits_.session_bytes) {
    throw Error("a client's memories have at most " + mib(limits_.session_bytes) + ", and " +
                mib(owned->bytes) + " are taken");
  }
  bytes = (bytes + kPage - 1) / kPage * kPage;
  if (total_bytes_ + bytes > limits_.total_bytes) {
    throw Error("all clients' memories have at most " + mib(limits_.total_bytes) + ", and " +
                mib(total_bytes_) + " are taken");
  }
  Segment segment(bytes, Segment::Access::kBoth);
  Descriptor descriptor = segment.take_descriptor();
  if (observer_) observer_(segment.data(), bytes, true);
  owned->bytes += bytes;
  total_bytes_ += bytes;
  Command command{Command::Kind::kMemory, session};
  command.memory = {static_cast<char*>(segment.data()), bytes};
  owned->memories.push_back(std::move(segment));
  post(std::move(command));
  return {static_cast<std::uint32_t>(owned->memories.size() - 1), std::move(descriptor)};
}

std::int32_t Sessions::add_model(const ModelSizes& sizes) {
  if (sizes.instances < 1) throw Error("a model has at least one instance");
  std::size_t id = 0;
  while (id < model_used_.size() && model_used_[id]) ++id;
  if (id == kMaxModels) throw Error("the server has as many models as it takes");
  if (id == model_used_.size()) {
    model_used_.push_back(false);
    generations_.push_back(0);
  }
  model_used_[id] = true;
  auto model = std::make_unique<Model>();
  model->sizes = sizes;
  model->free = sizes.instances;
  model->wire_id = wire_id(static_cast<std::int32_t>(id));
  Command command{Command::Kind::kAddModel, static_cast<std::int32_t>(id)};
  command.model = std::move(model);
  post(std::move(command));
  return static_cast<std::int32_t>(id);
}

std::uint32_t Sessions::wire_id(std::int32_t model) const {
  const auto index = static_cast<std::size_t>(model);
  return generations_.at(index) << kModelIndexBits |
         static_cast<std::uint32_t>(model);
}

void Sessions::remove_model(std::int32_t model) { post({Command::Kind::kRemoveModel, model}); }

void Sessions::release_model(std::int32_t model) {
  post({Command::Kind::kReleaseModel, model});
  const auto index = static_cast<std::size_t>(model);
  ++generations_.at(index);
  model_used_.at(index) = false;
}

void Sessions::stop() { post({Command::Kind::kStop}); }

// Hands back the memory of sessions that are gone on the way.
std::vector<Notice> Sessions::notices() {
  std::uint64_t count;
  (void)!read(notice_bell_.get(), &count, sizeof count);
  std::vector<Notice> notices;
  {
    const std::lock_guard lock(mutex_);
    notices.swap(notices_);
  }
  for (const Notice& notice : notices) {
    if (notice.kind != Notice::Kind::kGone) continue;
    std::unique_ptr<Owned>& owned = owned_[static_cast<std::size_t>(notice.id)];
    total_bytes_ -= owned->bytes;
    if (observer_) {
      for (const Segment& memory : owned->memories) observer_(memory.data(), memory.bytes(), false);
    }
    owned.reset();
  }
  return notices;
}

void Sessions::tell(Notice notice) {
  {
    const std::lock_guard lock(mutex_);
    notices_.push_back(std::move(notice));
  }
  add_one(notice_bell_);
}

Stats Sessions::stats() const {
  const std::lock_guard lock(stats_mutex_);
  Stats stats;
  for (std::size_t i = 0; i < models_.size(); ++i) {
    const Model* m = models_[i].get();
    if (!m) continue;
    const std::int64_t taken = m->taken.get(), finished = m->finished.get();
    const std::int64_t failed = m->failed.get(), waiting = m->waiting.get();
    stats.models.push_back(
        {.id = static_cast<std::int32_t>(i),
         .taken = taken,
         .finished = finished,
         .failed = failed,
         .waiting = waiting,
         .in_flight = std::max<std::int64_t>(taken - finished - failed - waiting, 0),
         .latencies = m->latencies.snapshot()});
  }
  for (std::size_t i = 0; i < sessions_.size(); ++i) {
    const Session* s = sessions_[i].get();
    if (!s) continue;
    stats.sessions.push_back({.id = static_cast<std::int32_t>(i),
                              .taken = s->taken.get(),
                              .answered = s->answered.get(),
                              .refused = s->refused.get(),
                              .memory_bytes = owned_[i] ? owned_[i]->bytes : 0});
  }
  return stats;
}

}  // namespace paella::ipc
