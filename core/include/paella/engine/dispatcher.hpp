#pragma once

#include <memory>
#include <vector>

#include "paella/engine/server.hpp"
#include "paella/engine/stages.hpp"
#include "paella/engine/system.hpp"
#include "paella/gpu/device.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/request/requests.hpp"
#include "paella/slots.hpp"

namespace paella::engine {

// CPU time of the dispatcher thread outside the driver, charged to a simulated port.
struct DispatcherCosts {
  double request_us = 0;
  double decision_us = 0;
};
DispatcherCosts dispatcher_costs(const SystemSpec& system, const gpu::HostCosts& host);

// The paper's server: one thread that takes requests, hears from the GPU, and decides unit by unit
// which job goes next (policy) and whether it may go now (admission).
class Dispatcher : public Server {
 public:
  Dispatcher(const SystemSpec& system, const MakePolicy& make_policy, const plan::SmLimits& sm,
             DispatcherCosts costs, gpu::Port& port, std::vector<gpu::StreamId> streams,
             request::Requests& requests);

  // Requests may name this model from now on; in place of one of which no job is left.
  void set_model(std::int32_t index, const plan::Model& model);

  TimeNs wake_ns() const override;
  bool step() override;
  bool done() const override { return requests_.done(); }
  TimeNs start_ns() const override { return requests_.start_ns(); }
  ServerCounters counters() const override;

 private:
  struct Job {
    request::Request request;
    std::int32_t stage = 0;
    gpu::StreamId stream = -1;
    TimeNs started_ns = -1;
    TimeNs issued_ns = 0;             // of the unit on the GPU
    double total_us = 0;              // estimated when the job arrived
    std::vector<double> remaining_us; // from each stage on, as estimated when the job arrived
  };

  void handle(const gpu::Event& event);
  void accept(const request::Request& request);
  void make_ready(std::int32_t slot);
  gpu::WorkUnit work_unit(std::int32_t slot, const Job& job, const Stage& stage) const;
  void dispatch();
  std::vector<Stage>& stages(const Job& job) { return stages_[job.request.model]; }

  SystemSpec system_;
  DispatcherCosts costs_;
  gpu::Port& port_;
  request::Requests& requests_;
  std::unique_ptr<sched::Policy> policy_;
  std::unique_ptr<sched::Admission> admission_;
  std::vector<std::vector<Stage>> stages_;        // of each model
  std::vector<std::vector<double>> estimate_us_;  // of each model's stages
  std::vector<double> alone_us_;                  // of each model
  std::vector<gpu::StreamId> free_streams_;
  Slots<Job> jobs_;  // a job has one unit on the GPU at a time: its slot names both
  std::vector<gpu::Event> events_;
  std::int64_t dispatches_ = 0;
};

}  // namespace paella::engine
