#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include "paella/engine/dispatcher.hpp"
#include "paella/engine/loop.hpp"
#include "paella/gpu/device.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/ipc/outputs.hpp"
#include "paella/ipc/sessions.hpp"

namespace paella::apps {

// On what and how a server serves: paella.specification.ServerSpecification.
struct ServerSpec {
  enum class Backend { kNull, kSim, kCuda };
  Backend backend = Backend::kSim;
  gpu::DeviceSpec device;
  gpu::DeviceSpec reference;  // the device that the models' kernels were measured on
  engine::SystemSpec system;  // with a dispatcher
  std::int32_t instances = 256;  // of all models that are there at a time
  double watchdog_s = 10;
  int gpu = 0;            // ordinal
  int partition_sms = 0;  // > 0: a partition of the GPU of so many SMs
};

constexpr auto names(ServerSpec::Backend) {
  return std::array<std::string_view, 3>{"null", "sim", "cuda"};
}

template <spec::Of<ServerSpec> Self>
void fields(Self& self, auto&& field) {
  field("backend", self.backend);
  field("device", self.device);
  field("reference", self.reference);
  field("system", self.system);
  field("instances", self.instances);
  field("watchdog_s", self.watchdog_s);
  field("gpu", self.gpu);
  field("partition_sms", self.partition_sms);
}

struct ServerOptions {
  int cpu = -1;        // of the serving thread; -1 is any
  TimeNs idle_ns = 0;  // without work for so long, the serving thread sleeps; 0: never
  bool compute_outputs = false;  // by other threads: outputs()
};

// A server of clients in other processes, for as long as they want. One thread serves, in run();
// models are one control thread's, and any other thread may ask for the counters.
class LiveServer {
 public:
  // Throws Error for a system without a dispatcher.
  LiveServer(std::shared_ptr<ipc::Sessions> sessions, const ServerSpec& spec,
             ServerOptions options);
  ~LiveServer();

  // Returns when the sessions are done. Error if the device fails; then nothing of it is touched
  // again, and the process has to end, because a GPU that hangs lets nobody free anything.
  void run();

  // Loads it while others are served. The index that requests carry.
  std::int32_t add_model(gpu::ModelSpec model, bool computes_outputs);
  // After its last job has ended.
  void remove_model(std::int32_t index);
  // Null unless asked for.
  ipc::Outputs* outputs() { return outputs_.get(); }
  struct Counters {
    engine::ServerCounters server;
    TimeNs longest_turn_ns = 0;  // without the driver's calls, since the last time
  };
  Counters counters();

 private:
  void on_serving_thread(std::function<void()> what);
  void do_posted();
  void serve();
  bool idle(TimeNs idle_ns);

  std::shared_ptr<ipc::Sessions> sessions_;
  ServerOptions options_;
  engine::SystemSpec system_;
  // A driver's call that never returns holds up the serving thread, but nobody else: the server has
  // to hear its clients and signals then, too.
  std::chrono::duration<double> patience_;
  std::unique_ptr<ipc::Outputs> outputs_;
  std::unique_ptr<gpu::Device> device_;
  std::unique_ptr<engine::Dispatcher> dispatcher_;
  std::unique_ptr<engine::Loop> loop_;

  std::mutex posting_;  // before mutex_: whoever waits for the serving thread
  std::mutex mutex_;
  std::condition_variable posted_done_;
  bool running_ = false, failed_ = false;
  std::function<void()> posted_;
  std::exception_ptr posted_error_;
  std::atomic<bool> has_posted_{false};
};

}  // namespace paella::apps
