#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "paella/engine/dispatcher.hpp"
#include "paella/engine/live_device.hpp"
#include "paella/engine/outputs.hpp"
#include "paella/ipc/sessions.hpp"

namespace paella::engine {

struct LiveOptions {
  int cpu = -1;        // of the serving thread; -1 is any
  TimeNs idle_ns = 0;  // without work for so long, the serving thread sleeps; 0: never
  bool compute_outputs = false;  // by other threads: outputs()
};

// A server of clients in other processes, for as long as they want. One thread serves, in run();
// models are one control thread's, and any other thread may ask for the counters.
class LiveServer {
 public:
  LiveServer(std::shared_ptr<ipc::Sessions> sessions, LiveSpec spec, LiveOptions options);
  ~LiveServer();

  // Returns when the sessions are done. Error if the device fails; then nothing of it is touched
  // again, and the process has to end, because a GPU that hangs lets nobody free anything.
  void run();

  // Loads it while others are served. The index that requests carry.
  std::int32_t add_model(LiveModel model, bool computes_outputs);
  // After its last job has ended.
  void remove_model(std::int32_t index);
  // Null unless asked for.
  Outputs* outputs() { return outputs_.get(); }
  struct Counters {
    ServerCounters server;
    TimeNs longest_turn_ns = 0;  // without the driver's calls, since the last time
  };
  Counters counters();

 private:
  void on_serving_thread(std::function<void()> what);
  void do_posted();
  void serve();

  std::shared_ptr<ipc::Sessions> sessions_;
  LiveOptions options_;
  // A driver's call that never returns holds up the serving thread, but nobody else: the server has
  // to hear its clients and signals then, too.
  std::chrono::duration<double> patience_;
  TimeNs longest_turn_ns_ = 0;
  std::unique_ptr<Outputs> outputs_;
  std::unique_ptr<LiveDevice> device_;
  std::unique_ptr<Dispatcher> dispatcher_;

  std::mutex posting_;  // before mutex_: whoever waits for the serving thread
  std::mutex mutex_;
  std::condition_variable posted_done_;
  bool running_ = false, failed_ = false;
  std::function<void()> posted_;
  std::exception_ptr posted_error_;
  std::atomic<bool> has_posted_{false};
};

}  // namespace paella::engine
