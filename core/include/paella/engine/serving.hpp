#pragma once

#include <memory>
#include <vector>

#include "paella/engine/run_spec.hpp"
#include "paella/engine/server.hpp"
#include "paella/gpu/device.hpp"
#include "paella/record/jobs.hpp"
#include "paella/request/trace_client.hpp"

namespace paella::engine {

// The servers of a run on a device, and the clients that send them its jobs: a dispatcher, one
// process of direct submission, or one for each model.
class Serving {
 public:
  // The device has the run's models. `jobs` gets their times; all arguments live longer.
  Serving(const RunSpec& spec, const MakePolicy& make_policy, int watcher_cpu, gpu::Device& device,
          record::Jobs& jobs);

  std::vector<Server*> servers() const;
  ServerCounters counters() const;
  // When the trace began, on the device's clock; known when all are done.
  TimeNs start_ns() const { return servers_.front()->start_ns(); }

 private:
  void add_dispatcher(const MakePolicy& make_policy);
  void add_processes();
  void add_direct(request::ClientSpec client, std::int64_t streams);
  gpu::ProcessSpec process(std::int64_t streams) const;
  request::TraceClient& add_client(request::ClientSpec client);

  const RunSpec& spec_;
  int watcher_cpu_;
  gpu::Device& device_;
  record::Jobs& jobs_;
  std::vector<std::unique_ptr<request::TraceClient>> clients_;
  std::vector<std::unique_ptr<Server>> servers_;
};

// Loads the models of a run into a device that has none yet.
void install_models(const RunSpec& spec, gpu::Device& device);
// Throws the Error of a run whose jobs wait for ever.
[[noreturn]] void cannot_go_on(const record::Jobs& jobs);

}  // namespace paella::engine
