#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "executor.hpp"
#include "paella/clock.hpp"
#include "paella/gpu/sim/sim_device.hpp"
#include "paella/on_cpu.hpp"

namespace paella::triton {
namespace {

constexpr TimeNs kWakesLateNs = 100'000;  // of a thread that sleeps
constexpr int kCoresToSpin = 8;
constexpr int kStepsAtOnce = 2000;       // until others may submit

// The server's threads issue to one simulated GPU, each through a port of its own, at the wall
// clock's time. One more thread lets happen there what is due, and wakes who waits for it.
class Simulated final : public Executor {
 public:
  explicit Simulated(const Description& description)
      : description_(description),
        device_(*description.device, *description.reference, gpu::sim::Sharing::kMps, nullptr),
        process_(device_.add_process(description.hardware_queues)),
        watcher_(device_.add_port(process_, 1)),
        origin_ns_(monotonic_ns()),
        spins_(cpus_allowed() >= kCoresToSpin) {
    device_.add_models(profiles(description));
    pacer_ = std::thread([this] { keep_pace(); });
  }

  ~Simulated() override {
    {
      const auto lock = take_lock();
      stop_ = true;
      due_.notify_one();
    }
    pacer_.join();
  }

  void load(std::size_t) override {}
  std::unique_ptr<ModelInstance> make_instance(std::size_t model) override;

 private:
  class SimulatedInstance;

  static std::vector<plan::Model> profiles(const Description& description) {
    std::vector<plan::Model> models;
    for (const DescribedModel& model : description.models) models.push_back(*model.profile);
    return models;
  }

  static int cpus_allowed() {
    const cpu_set_t set = allowed_cpus();
    return CPU_COUNT(&set);
  }

  TimeNs now() const { return monotonic_ns() - origin_ns_; }

  void keep_pace() {
    prctl(PR_SET_TIMERSLACK, 1);
    std::unique_lock lock(mutex_);
    while (!stop_) {
      const TimeNs next = std::min(device_.next_ns(), watcher_.next_event_ns());
      if (next == kNever) {
        due_.wait(lock);
      } else if (const TimeNs ahead = next - now(); ahead > (spins_ ? kWakesLateNs : 0)) {
        due_.wait_for(lock, std::chrono::nanoseconds(ahead - (spins_ ? kWakesLateNs : 0)));
      } else {
        if (ahead <= 0) happen();
        give_way(lock, next);
      }
    }
  }

  // A mutex goes to who asks at the right moment, and this thread asks all the time. Until `next`,
  // or somebody wants it.
  void give_way(std::unique_lock<std::mutex>& lock, TimeNs next) {
    lock.unlock();
    while (wanting_ == 0 && now() < next) continue;
    while (wanting_ > 0) std::this_thread::yield();
    lock.lock();
  }

  // The lock, for a thread of the server's.
  std::unique_lock<std::mutex> take_lock() {
    ++wanting_;
    std::unique_lock lock(mutex_);
    --wanting_;
    return lock;
  }

  void happen() {
    const TimeNs until = now();
    for (int steps = 0; steps < kStepsAtOnce; ++steps) {
      const TimeNs next = device_.next_ns();
      if (next > until) break;
      device_.step(next);
    }
    const TimeNs visible = watcher_.next_event_ns();
    if (visible > until) return;
    watcher_.idle_until(until);
    events_.clear();
    watcher_.poll(events_);
    for (const gpu::Event& event : events_) {
      if (event.done) finish(event.unit, now() - visible);
    }
  }

  void finish(std::int32_t instance, TimeNs late_ns);

  const Description description_;
  std::atomic<int> wanting_{0};  // threads that wait for the mutex
  std::mutex mutex_;             // of all that follows
  std::condition_variable due_;
  gpu::sim::SimDevice device_;
  int process_;
  gpu::sim::SimDevice::SimPort& watcher_;
  std::vector<SimulatedInstance*> instances_;
  std::vector<gpu::Event> events_;
  TimeNs origin_ns_;
  bool stop_ = false;
  const bool spins_;
  std::thread pacer_;
};

class Simulated::SimulatedInstance final : public ModelInstance {
 public:
  // With the executor's lock.
  SimulatedInstance(Simulated& on, std::size_t model)
      : on_(on),
        port_(on.device_.add_port(on.process_, on.watcher_)),
        stream_(on.device_.add_stream(on.process_)) {
    unit_.id = static_cast<gpu::UnitId>(on.instances_.size());
    unit_.model = static_cast<std::int32_t>(model);
    unit_.last_kernel =
        static_cast<std::int32_t>(on.description_.models[model].profile->kernels.size());
    unit_.copy_in = unit_.copy_out = true;
    unit_.as_graph = on.description_.graphs;
    unit_.notify = gpu::Notify::kStream;
    on.instances_.push_back(this);
  }

  TimeNs execute(const std::vector<ConstBytes>& inputs,
                 const std::vector<Bytes>& outputs) override {
    done_ = false;
    {
      const auto lock = on_.take_lock();
      port_.idle_until(on_.now());
      port_.submit(stream_, unit_);
      on_.due_.notify_one();
    }
    done_.wait(false);
    repeat(inputs, outputs);
    return late_ns_;
  }

  void finish(TimeNs late_ns) {
    late_ns_ = late_ns;
    done_ = true;
    done_.notify_one();
  }

 private:
  Simulated& on_;
  gpu::Port& port_;
  gpu::StreamId stream_;
  gpu::WorkUnit unit_;
  std::atomic<bool> done_{true};
  TimeNs late_ns_ = 0;  // before done_
};

void Simulated::finish(std::int32_t instance, TimeNs late_ns) {
  instances_[instance]->finish(late_ns);
}

std::unique_ptr<ModelInstance> Simulated::make_instance(std::size_t model) {
  const auto lock = take_lock();
  return std::make_unique<SimulatedInstance>(*this, model);
}

}  // namespace

std::unique_ptr<Executor> make_simulated(const Description& description) {
  return std::make_unique<Simulated>(description);
}

}  // namespace paella::triton
