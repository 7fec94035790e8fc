// What the serving thread does with sessions while it is awake.

#include <sys/epoll.h>

#include <algorithm>

#include "paella/clock.hpp"
#include "sessions_parts.hpp"

namespace paella::ipc {
namespace {

// Requests looked at per take(): so long does a client with nothing but bad ones hold up the rest.
constexpr int kPatience = 64;

}  // namespace

// ---- commands of the control thread

void Sessions::apply_commands() {
  commanded_.store(false, std::memory_order_relaxed);
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) apply(command);
}

void Sessions::apply(Command& command) {
  const auto index = static_cast<std::size_t>(std::max(command.id, 0));
  switch (command.kind) {
    case Command::Kind::kAttach: {
      epoll_event event{};
      event.events = EPOLLIN | EPOLLRDHUP;
      event.data.fd = command.id;
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, command.session->wake_descriptor(), &event);
      command.session->generation = ++generation_;
      live_.push_back(command.id);
      const std::lock_guard lock(stats_mutex_);
      sessions_[index] = std::move(command.session);
      return;
    }
    case Command::Kind::kDetach:
      leave(command.id);
      return;
    case Command::Kind::kMemory:
      sessions_[index]->memories.push_back(command.memory);
      return;
    case Command::Kind::kAddModel: {
      const std::lock_guard lock(stats_mutex_);
      if (models_.size() <= index) models_.resize(index + 1);
      models_[index] = std::move(command.model);
      return;
    }
    case Command::Kind::kRemoveModel:
      models_[index]->accepting = false;
      if (models_[index]->jobs == 0) tell({Notice::Kind::kDrained, command.id, ""});
      return;
    case Command::Kind::kReleaseModel: {
      const std::lock_guard lock(stats_mutex_);
      models_[index].reset();
      return;
    }
    case Command::Kind::kStop:
      if (stopping_) return;
      stopping_ = true;
      stopped_ns_ = monotonic_ns();
      for (const std::int32_t id : live_) {
        Session& session = *sessions_[static_cast<std::size_t>(id)];
        session.last_request = session.rings.tail();
      }
      return;
  }
}

// ---- clients that go

// What is not on the device yet is dropped; what is, ends unheard.
void Sessions::leave(std::int32_t id) {
  unread(id);
  sessions_[static_cast<std::size_t>(id)]->leaving = true;
  drop_waiting(id, Status::kStopping);
  forget_if_over(id);
}

void Sessions::drop_waiting(std::int32_t id, Status status) {
  Session& session = *sessions_[static_cast<std::size_t>(id)];
  for (std::size_t m = 0; m < session.waiting.size(); ++m) {
    if (session.waiting[m].empty()) continue;
    std::erase(models_[m]->turn, id);
    models_[m]->waiting += -static_cast<std::int64_t>(session.waiting[m].size());
    for (const std::int32_t job : session.waiting[m]) end(job, status, 0, 0);
    session.waiting[m].clear();
  }
  std::deque<std::int32_t> ready;
  ready.swap(ready_);
  for (const std::int32_t job : ready) {
    if (jobs_[job].session != id) {
      ready_.push_back(job);
      continue;
    }
    const std::int32_t model = jobs_[job].model;
    end(job, status, 0, 0);
    release_instance(model);
  }
}

// Of a session that is not to be read any more.
void Sessions::unread(std::int32_t id) {
  const auto at = std::find(live_.begin(), live_.end(), id);
  if (at == live_.end()) return;
  live_.erase(at);
  turn_ = 0;
  Session& session = *sessions_[static_cast<std::size_t>(id)];
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, session.wake_descriptor(), nullptr);
}

void Sessions::forget_if_over(std::int32_t id) {
  const Session& session = *sessions_[static_cast<std::size_t>(id)];
  if (!session.leaving || session.outstanding > 0) return;
  {
    const std::lock_guard lock(stats_mutex_);
    sessions_[static_cast<std::size_t>(id)].reset();
  }
  tell({Notice::Kind::kGone, id, ""});
}

void Sessions::broken(std::int32_t id, const char* why) {
  unread(id);
  tell({Notice::Kind::kBroken, id, why});
}

// ---- requests

bool Sessions::take(TimeNs now, request::Request& request) {
  if (commanded_.load(std::memory_order_acquire)) apply_commands();
  if (!wakes_.empty()) wake_early(now);
  int patience = kPatience;
  std::size_t quiet = 0;
  while (ready_.empty() && quiet < live_.size() && patience > 0) {
    if (turn_ >= live_.size()) turn_ = 0;
    const std::int32_t id = live_[turn_];
    Session& session = *sessions_[static_cast<std::size_t>(id)];
    RequestSlot slot;
    switch (session.rings.take(slot)) {
      case ServerRings::Found::kNothing:
        ++quiet;
        ++turn_;
        break;
      case ServerRings::Found::kBroken:
        broken(id, session.rings.why_broken());
        break;
      case ServerRings::Found::kRequest:
        quiet = 0;
        --patience;
        ++turn_;
        accept(id, slot, now);
        break;
    }
  }
  if (ready_.empty()) return false;
  const std::int32_t number = ready_.front();
  ready_.pop_front();
  const Job& job = jobs_[number];
  request = {};
  request.job = number;
  request.model = job.model;
  request.due_ns = job.due_ns;
  request.input = job.input;
  request.output = job.output;
  return true;
}

void Sessions::accept(std::int32_t id, const RequestSlot& slot, TimeNs now) {
  Session& session = *sessions_[static_cast<std::size_t>(id)];
  ++session.taken;
  Job job{.session = id,
          .model = -1,
          .tag = slot.tag,
          .input = nullptr,
          .output = nullptr,
          .due_ns = now,
          .taken_ns = now,
          .submitted_ns = now};
  Status status = check(session, slot, job);
  if (status != Status::kOk && commanded_.load(std::memory_order_acquire)) {
    // Perhaps it names what the control thread has made since take() began.
    apply_commands();
    const Session* still = sessions_[static_cast<std::size_t>(id)].get();
    if (!still || still->leaving) return;
    status = check(session, slot, job);
  }
  if (stopping_ && session.rings.taken() > session.last_request) status = Status::kStopping;
  if (refusing_ != Status::kOk) status = refusing_;
  if (status != Status::kOk) {
    ++session.refused;
    session.answer({slot.tag, static_cast<std::uint32_t>(status), 0, now, 0, 0, 0, {}});
    return;
  }
  Model& model = *models_[static_cast<std::size_t>(job.model)];
  ++model.taken;
  if (model.sizes.empty) {
    ++model.finished;
    model.latencies.add(0);
    session.answer({slot.tag, static_cast<std::uint32_t>(Status::kOk), 0, now, now, 0, now, {}});
    return;
  }
  const auto due = static_cast<TimeNs>(slot.due_ns);
  if (due > 0 && due < now) job.due_ns = std::max(due, now - kMaxAgeNs);
  ++model.jobs;
  ++session.outstanding;
  ++outstanding_;
  const std::int32_t number = jobs_.take();
  jobs_[number] = job;
  if (model.free > 0) {
    --model.free;
    ready_.push_back(number);
    return;
  }
  ++model.waiting;
  const auto m = static_cast<std::size_t>(job.model);
  if (session.waiting.size() <= m) session.waiting.resize(m + 1);
  if (session.waiting[m].empty()) model.turn.push_back(id);
  session.waiting[m].push_back(number);
}

// Fills in what the request names, if it is allowed to.
Status Sessions::check(const Session& session, const RequestSlot& slot, Job& job) const {
  if ((slot.reserved0 | slot.reserved1[0] | slot.reserved1[1]) != 0) return Status::kBadRequest;
  const std::uint32_t index = slot.model & kModelIndexMask;
  if (index >= models_.size() || !models_[index] || models_[index]->wire_id != slot.model ||
      !models_[index]->accepting) {
    return Status::kBadModel;
  }
  job.model = static_cast<std::int32_t>(index);
  const auto place = [&](std::uint32_t memory, std::uint64_t offset, std::uint64_t bytes,
                         char*& at) {
    at = nullptr;
    if (bytes == 0) return Status::kOk;
    if (memory >= session.memories.size()) return Status::kBadMemory;
    const MemoryView& view = session.memories[memory];
    if (offset % kAlignment != 0 || offset > view.bytes || bytes > view.bytes - offset) {
      return Status::kBadRange;
    }
    at = view.data + offset;
    return Status::kOk;
  };
  const ModelSizes& sizes = models_[index]->sizes;
  char* input;
  const Status status = place(slot.input_memory, slot.input_offset, sizes.input_bytes, input);
  job.input = input;
  if (status != Status::kOk) return status;
  return place(slot.output_memory, slot.output_offset, sizes.output_bytes, job.output);
}

const ModelSizes& Sessions::sizes(const request::Request& request) const {
  return models_[static_cast<std::size_t>(request.model)]->sizes;
}

void Sessions::submitted(const request::Request& request, TimeNs now) {
  jobs_[request.job].submitted_ns = now;
}

// ---- answers

void Sessions::finished(const request::Request& request, TimeNs started_ns, TimeNs answered_ns) {
  const Job job = jobs_[request.job];
  Model& model = *models_[static_cast<std::size_t>(job.model)];
  ++model.finished;
  model.latencies.add(answered_ns - job.taken_ns);
  end(request.job, model.sizes.computes_outputs ? Status::kOk : Status::kNoOutput,
      std::max<TimeNs>(started_ns, 0), answered_ns);
  release_instance(job.model);
  forget_if_over(job.session);
}

void Sessions::failed(const request::Request& request, Status status) {
  const Job job = jobs_[request.job];
  end(request.job, status, 0, 0);
  release_instance(job.model);
  forget_if_over(job.session);
}

void Sessions::refuse_all(Status status) {
  refusing_ = status;
  for (std::size_t id = 0; id < sessions_.size(); ++id) {
    if (sessions_[id]) drop_waiting(static_cast<std::int32_t>(id), status);
  }
}

// Of a job, wherever it is: answers it, and forgets it.
void Sessions::end(std::int32_t number, Status status, TimeNs started_ns, TimeNs finished_ns) {
  const Job job = jobs_[number];
  jobs_.give_back(number);
  --outstanding_;
  Session& session = *sessions_[static_cast<std::size_t>(job.session)];
  --session.outstanding;
  Model& model = *models_[static_cast<std::size_t>(job.model)];
  if (--model.jobs == 0 && !model.accepting) tell({Notice::Kind::kDrained, job.model, ""});
  if (finished_ns == 0) ++model.failed;
  if (session.leaving) return;
  session.answer({job.tag, static_cast<std::uint32_t>(status), 0, job.taken_ns, job.submitted_ns,
                  started_ns, finished_ns, {}});
}

// Clients in turn: one that has many waiting does not hold up the others.
void Sessions::release_instance(std::int32_t number) {
  Model& model = *models_[static_cast<std::size_t>(number)];
  while (!model.turn.empty()) {
    const std::int32_t id = model.turn.front();
    model.turn.pop_front();
    Session* session = sessions_[static_cast<std::size_t>(id)].get();
    const auto m = static_cast<std::size_t>(number);
    if (!session || session->waiting.size() <= m || session->waiting[m].empty()) continue;
    ready_.push_back(session->waiting[m].front());
    session->waiting[m].pop_front();
    --model.waiting;
    if (!session->waiting[m].empty()) model.turn.push_back(id);
    return;
  }
  ++model.free;
}

}  // namespace paella::ipc
