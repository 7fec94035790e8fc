#include "paella/ipc/outputs.hpp"

namespace paella::ipc {

std::optional<Outputs::Work> Outputs::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_ || !to_compute_.empty(); });
  if (to_compute_.empty()) return {};
  const Work work = to_compute_.front();
  to_compute_.pop_front();
  return work;
}

void Outputs::put(Work work) {
  {
    const std::lock_guard lock(mutex_);
    computed_.push_back(work);
  }
  has_computed_.store(true, std::memory_order_release);
  sessions_->ring();
}

void Outputs::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void Outputs::set_model(std::int32_t index, std::uint64_t input_bytes,
                        std::uint64_t output_bytes) {
  const auto m = static_cast<std::size_t>(index);
  const std::lock_guard lock(mutex_);
  if (m >= sizes_.size()) sizes_.resize(m + 1);
  sizes_[m].input_bytes = input_bytes;
  sizes_[m].output_bytes = output_bytes;
}

TimeNs Outputs::next_due_ns() const {
  return has_computed_.load(std::memory_order_acquire) ? 0 : sessions_->next_due_ns();
}

bool Outputs::take(TimeNs now, request::Request& request) {
  if (has_computed_.exchange(false, std::memory_order_acquire)) {
    std::vector<Work> computed;
    {
      const std::lock_guard lock(mutex_);
      computed.swap(computed_);
    }
    for (const Work& work : computed) {
      if (work.computed) {
        sessions_->finished(work.request, work.started_ns, work.finished_ns);
      } else {
        sessions_->failed(work.request, Status::kFailed);
      }
    }
  }
  return sessions_->take(now, request);
}

void Outputs::finished(const request::Request& request, TimeNs started_ns, TimeNs answered_ns) {
  const std::lock_guard lock(mutex_);
  Work& work = to_compute_.emplace_back(sizes_[static_cast<std::size_t>(request.model)]);
  work.request = request;
  work.started_ns = started_ns;
  work.finished_ns = answered_ns;
  changed_.notify_one();
}

}  // namespace paella::ipc
