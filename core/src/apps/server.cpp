#include "paella/apps/server.hpp"

#include <utility>

#include "paella/engine/stages.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/cuda_device.hpp"
#include "paella/gpu/null/null_device.hpp"
#include "paella/gpu/sim/paced_device.hpp"
#include "paella/on_cpu.hpp"

namespace paella::apps {
namespace {

using Backend = ServerSpec::Backend;

// The way of a request is real here, and takes what it takes.
engine::SystemSpec without_modelled_way(engine::SystemSpec system) {
  system.request_us = {};
  return system;
}

std::unique_ptr<gpu::Device> make_device(const ServerSpec& spec) {
  switch (spec.backend) {
    case Backend::kNull: return std::make_unique<gpu::NullDevice>();
    case Backend::kSim:
      return std::make_unique<gpu::sim::PacedDevice>(spec.device, spec.reference);
    case Backend::kCuda: break;
  }
  gpu::cuda::CudaOptions options;
  options.ordinal = spec.gpu;
  options.partition_sms = spec.partition_sms;
  options.instances = spec.instances;
  options.watchdog_s = spec.watchdog_s;
  return std::make_unique<gpu::cuda::CudaDevice>(options);
}

gpu::Process prepare(const ServerSpec& spec, gpu::Device& device) {
  gpu::ProcessSpec process;
  process.streams = spec.system.streams.count.value_or(spec.instances);
  process.hardware_queues = spec.system.hardware_queues.value_or(spec.device.hardware_queues);
  process.notify_blocks = spec.system.notify_blocks();
  const auto here = device.enter();
  gpu::Process made = device.prepare(process);
  device.start_clock(0);
  return made;
}

}  // namespace

LiveServer::LiveServer(std::shared_ptr<ipc::Sessions> sessions, const ServerSpec& spec,
                       ServerOptions options)
    : sessions_(std::move(sessions)),
      options_(options),
      system_(without_modelled_way(spec.system)),
      patience_(spec.watchdog_s) {
  if (!system_.has_dispatcher()) throw Error("a server needs a system with a dispatcher");
  device_ = make_device(spec);
  gpu::Process process = prepare(spec, *device_);
  if (options.compute_outputs) outputs_ = std::make_unique<ipc::Outputs>(sessions_);
  dispatcher_ = std::make_unique<engine::Dispatcher>(
      system_, engine::policy_maker(system_), spec.device.sm, engine::DispatcherCosts{},
      *process.port, std::move(process.streams),
      outputs_ ? static_cast<request::Requests&>(*outputs_) : *sessions_);
  const auto each_turn = [this] {
    if (has_posted_.load(std::memory_order_acquire)) do_posted();
  };
  loop_ = std::make_unique<engine::Loop>(
      *device_, std::vector<engine::Server*>{dispatcher_.get()},
      engine::Loop::Hooks{each_turn, [this](TimeNs idle_ns, TimeNs) { return idle(idle_ns); }});
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
  (void)loop_.release();
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
  loop_->run();
}

bool LiveServer::idle(TimeNs idle_ns) {
  if (options_.idle_ns == 0 || idle_ns <= options_.idle_ns) return false;
  sessions_->idle_wait(sessions_->next_due_ns());
  return true;
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

std::int32_t LiveServer::add_model(gpu::ModelSpec spec, bool computes_outputs) {
  const plan::Model model = spec.model;
  const ipc::ModelSizes sizes{.input_bytes = static_cast<std::uint64_t>(model.input_bytes),
                              .output_bytes = static_cast<std::uint64_t>(model.output_bytes),
                              .instances = spec.instances,
                              .computes_outputs = computes_outputs,
                              .empty = model.kernels.empty()};
  if (system_.graphs()) spec.units = engine::units_of(model, system_);
  for (gpu::WorkUnit& unit : spec.units) unit.of_client = true;
  std::unique_ptr<gpu::Device::Loaded> loaded;
  {
    const auto here = device_->enter();
    loaded = device_->load(std::move(spec));
  }
  std::int32_t index = -1;
  // In one turn, so that no request for it comes before it is there.
  on_serving_thread([&] {
    index = sessions_->add_model(sizes);
    dispatcher_->set_model(index, model);
    if (outputs_) outputs_->set_model(index, sizes.input_bytes, sizes.output_bytes);
    device_->install(index, std::move(loaded));
  });
  return index;
}

void LiveServer::remove_model(std::int32_t index) {
  std::unique_ptr<gpu::Device::Loaded> removed;
  on_serving_thread([&] { removed = device_->remove(index); });
  const auto here = device_->enter();
  device_->unload(std::move(removed));
}

LiveServer::Counters LiveServer::counters() {
  Counters counters;
  on_serving_thread(
      [&] { counters = {dispatcher_->counters(), loop_->take_longest_turn_ns()}; });
  return counters;
}

}  // namespace paella::apps
