#include "paella/engine/live.hpp"

#include <algorithm>
#include <utility>

#include "paella/clock.hpp"
#include "paella/error.hpp"
#include "paella/on_cpu.hpp"

namespace paella::engine {
namespace {

// The way of a request is real here, and takes what it takes.
SystemSpec without_modelled_way(SystemSpec system) {
  system.request_latency_us = system.request_cpu_us = system.response_latency_us = 0;
  return system;
}

}  // namespace

LiveServer::LiveServer(std::shared_ptr<ipc::Sessions> sessions, LiveSpec spec, LiveOptions options)
    : sessions_(std::move(sessions)),
      options_(options),
      patience_(spec.watchdog_s),
      device_(make_live_device(spec)) {
  if (options.compute_outputs) outputs_ = std::make_unique<Outputs>(sessions_);
  dispatcher_ = std::make_unique<Dispatcher>(
      without_modelled_way(spec.system), std::vector<plan::Model>{}, spec.device.sm,
      DispatcherCosts{}, device_->port(), device_->streams(),
      outputs_ ? static_cast<Requests&>(*outputs_) : *sessions_);
  sessions_->set_memory_observer([this](void* at, std::size_t bytes, bool added) {
    const std::lock_guard lock(mutex_);
    if (failed_) return;
    const auto here = device_->enter();
    if (added) {
      device_->add_memory(at, bytes);
    } else {
      device_->remove_memory(at);
    }
  });
}

LiveServer::~LiveServer() {
  sessions_->set_memory_observer({});
  if (!failed_) return;
  (void)dispatcher_.release();
  (void)device_.release();
}

void LiveServer::run() {
  {
    const std::lock_guard lock(mutex_);
    if (failed_) throw Error("the device has failed in this process");
    running_ = true;
  }
  const auto stopped = [this](bool failed) {
    const std::lock_guard lock(mutex_);
    running_ = false;
    failed_ = failed;
    posted_done_.notify_all();
    if (outputs_) outputs_->end();
  };
  try {
    serve();
  } catch (...) {
    sessions_->refuse_all(ipc::Status::kFailed);
    stopped(true);
    throw;
  }
  stopped(false);
}

void LiveServer::serve() {
  const OnCpu pinned(options_.cpu);
  const auto here = device_->enter();
  gpu::Port& port = device_->port();
  TimeNs busy_ns = monotonic_ns();
  TimeNs before_ns = busy_ns, outside_ns = device_->outside_ns();
  while (!sessions_->done()) {
    device_->tick();
    const TimeNs now = port.now();
    const TimeNs outside = device_->outside_ns() - outside_ns;
    longest_turn_ns_ = std::max(longest_turn_ns_, now - before_ns - outside);
    outside_ns += outside;
    before_ns = now;
    if (has_posted_.load(std::memory_order_acquire)) do_posted();
    if (dispatcher_->wake_ns() <= now) {
      dispatcher_->step();
      busy_ns = now;
    }
    if (device_->busy()) {
      device_->watch();
      busy_ns = now;
    } else if (options_.idle_ns > 0 && now - busy_ns > options_.idle_ns) {
      sessions_->idle_wait(sessions_->next_due_ns());
      before_ns = busy_ns = monotonic_ns();
    }
  }
}

void LiveServer::on_serving_thread(std::function<void()> what) {
  const std::lock_guard one_at_a_time(posting_);
  std::unique_lock lock(mutex_);
  if (failed_) throw Error("the device has failed in this process");
  if (!running_) {
    const auto here = device_->enter();
    what();
    return;
  }
  posted_ = std::move(what);
  posted_error_ = nullptr;
  has_posted_.store(true, std::memory_order_release);
  sessions_->ring();
  posted_done_.wait_for(lock, patience_, [this] { return !has_posted_ || !running_; });
  if (posted_error_) std::rethrow_exception(posted_error_);
  if (has_posted_.exchange(false)) {
    throw Error(running_ ? "the serving thread does not answer" : "the server has ended");
  }
}

void LiveServer::do_posted() {
  const std::lock_guard lock(mutex_);
  if (!has_posted_) return;  // given up
  try {
    posted_();
  } catch (...) {
    posted_error_ = std::current_exception();
  }
  has_posted_.store(false, std::memory_order_release);
  posted_done_.notify_all();
}

std::int32_t LiveServer::add_model(LiveModel live, bool computes_outputs) {
  const plan::Model model = live.model;
  const auto input = static_cast<std::uint64_t>(model.input_bytes);
  const auto output = static_cast<std::uint64_t>(model.output_bytes);
  const ipc::ModelSizes sizes{input, output, live.instances, computes_outputs,
                              model.kernels.empty()};
  std::unique_ptr<LiveDevice::Loaded> loaded;
  {
    const auto here = device_->enter();
    loaded = device_->load(std::move(live));
  }
  std::int32_t index = -1;
  // In one turn, so that no request for it comes before it is there.
  on_serving_thread([&] {
    index = sessions_->add_model(sizes);
    dispatcher_->set_model(index, model);
    if (outputs_) outputs_->set_model(index, input, output);
    device_->install(index, *loaded);
  });
  return index;
}

void LiveServer::remove_model(std::int32_t index) {
  std::unique_ptr<LiveDevice::Loaded> removed;
  on_serving_thread([&] { removed = device_->remove(index); });
  const auto here = device_->enter();
  device_->unload(std::move(removed));
}

LiveServer::Counters LiveServer::counters() {
  Counters counters;
  on_serving_thread([&] {
    counters = {dispatcher_->counters(), std::exchange(longest_turn_ns_, 0)};
  });
  return counters;
}

}  // namespace paella::engine
