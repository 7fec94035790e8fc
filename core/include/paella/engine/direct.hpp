#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "paella/engine/server.hpp"
#include "paella/engine/system.hpp"
#include "paella/gpu/device.hpp"
#include "paella/plan/model.hpp"
#include "paella/request/requests.hpp"
#include "paella/slots.hpp"

namespace paella::engine {

// Serving without a dispatcher: each job's operations are issued at once to a stream of its own
// and the hardware schedules. One thread issues them all (CUDA-SS, CUDA-MS, one MPS process), or
// each instance of a model has its own (Triton); another thread watches for the ends.
class DirectSubmission : public Server {
 public:
  // `threads`: one port, or one for each instance, model by model. Their events come to `watcher`.
  DirectSubmission(const SystemSpec& system, const std::vector<plan::Model>& models,
                   const std::vector<std::int32_t>& instances, gpu::Port& watcher,
                   std::vector<gpu::Port*> threads, std::vector<gpu::StreamId> streams,
                   request::Requests& requests);

  TimeNs wake_ns() const override;
  bool step() override;
  bool done() const override { return requests_.done(); }
  TimeNs start_ns() const override { return requests_.start_ns(); }
  ServerCounters counters() const override;

 private:
  struct Job {
    request::Request request;
    TimeNs ready_ns;  // when the request has reached the thread
    std::int32_t thread;
    gpu::StreamId stream;
  };
  struct Thread {
    gpu::Port* port;
    std::deque<std::int32_t> jobs;  // slots
  };

  TimeNs next_issue_ns(const Thread& thread) const;
  bool take_requests(TimeNs now);
  void issue(Thread& thread);
  bool watch(TimeNs now);

  SystemSpec system_;
  std::vector<gpu::WorkUnit> jobs_of_models_;  // a whole job of each
  gpu::Port& watcher_;
  request::Requests& requests_;
  std::vector<Thread> threads_;
  std::vector<std::int32_t> busy_threads_;  // with jobs to issue
  std::vector<std::vector<std::int32_t>> free_threads_;  // of each model, if instances have threads
  std::vector<gpu::StreamId> free_streams_;
  Slots<Job> jobs_;
  std::vector<gpu::Event> events_;
  std::int64_t issued_ = 0;
};

}  // namespace paella::engine
