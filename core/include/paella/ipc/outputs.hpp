#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "paella/ipc/sessions.hpp"
#include "paella/request/requests.hpp"

namespace paella::ipc {

// Between a device that computes nothing and its clients: jobs that have ended wait here until other
// threads have computed their outputs, and only then are answered.
class Outputs : public request::Requests {
 public:
  explicit Outputs(std::shared_ptr<Sessions> sessions) : sessions_(std::move(sessions)) {}

  // ---- Computing threads.

  struct Work {
    request::Request request;
    TimeNs started_ns = 0, finished_ns = 0;
    std::uint64_t input_bytes = 0, output_bytes = 0;
    bool computed = false;
  };
  // Waits for one; none when there will be no more.
  std::optional<Work> next();
  void put(Work work);
  void end();

  // ---- Serving thread.

  void set_model(std::int32_t index, std::uint64_t input_bytes, std::uint64_t output_bytes);

  TimeNs next_due_ns() const override;
  bool take(TimeNs now, request::Request& request) override;
  void submitted(const request::Request& request, TimeNs now) override { sessions_->submitted(request, now); }
  void almost_finished(const request::Request& request, TimeNs expected_end_ns) override {
    sessions_->almost_finished(request, expected_end_ns);
  }
  void finished(const request::Request& request, TimeNs started_ns, TimeNs answered_ns) override;
  bool done() const override { return sessions_->done(); }
  TimeNs start_ns() const override { return sessions_->start_ns(); }

 private:
  std::shared_ptr<Sessions> sessions_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Work> sizes_;  // by model
  std::deque<Work> to_compute_;
  std::vector<Work> computed_;
  std::atomic<bool> has_computed_{false};
  bool ended_ = false;
};

}  // namespace paella::ipc
