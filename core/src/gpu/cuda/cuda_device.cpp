#include "paella/gpu/cuda/cuda_device.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "paella/clock.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/cuda_port.hpp"
#include "paella/gpu/cuda/watchdog.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr std::uint32_t kRingMessages = 1 << 16;

bool ends_with_copy(const WorkUnit& unit) {
  return unit.copy_out || unit.first_kernel == unit.last_kernel;
}

// Without a GPU that writes values into a stream.
void write_word(void* word) {
  __atomic_store_n(static_cast<std::uint32_t*>(word), 1, __ATOMIC_RELEASE);
}

}  // namespace

Telling telling_of(const WorkUnit& unit) {
  switch (unit.notify) {
    case Notify::kStream: return Telling::kNone;
    case Notify::kUnit: return ends_with_copy(unit) ? Telling::kNone : Telling::kLast;
    case Notify::kBlocks: return Telling::kAll;
  }
  return Telling::kNone;
}

DeviceContext::DeviceContext(int ordinal, int partition_sms) {
  const Driver& d = driver();
  d.check(d.device_get(&device_, ordinal), "asking for a device");
  d.check(d.device_attribute(&sms_, static_cast<int>(Attribute::kMultiprocessors), device_),
          "asking for a device's attribute");
  if (partition_sms > 0) {
    if (!d.device_resource || !d.split_sms || !d.describe_resource || !d.green_create ||
        !d.green_destroy || !d.green_context) {
      throw Error("a partition of the GPU needs green contexts, which this driver lacks");
    }
    if (partition_sms > sms_) {
      throw Error("a partition of " + std::to_string(partition_sms) + " SMs does not fit a GPU of " +
                  std::to_string(sms_));
    }
  }
  // A green context retains the primary one, too.
  d.check(d.context_retain(&context_, device_), "making a context");
  if (partition_sms <= 0) return;
  try {
    DeviceResource whole, part;
    d.check(d.device_resource(device_, &whole, kResourceSms), "asking for the device's SMs");
    unsigned groups = 1;
    d.check(d.split_sms(&part, &groups, &whole, nullptr, 0, static_cast<unsigned>(partition_sms)),
            "partitioning the device's SMs");
    if (groups < 1 || part.sms != static_cast<unsigned>(partition_sms)) {
      throw Error("this GPU has no partition of " + std::to_string(partition_sms) +
                  " SMs; the next larger one has " + std::to_string(part.sms));
    }
    ResourceDesc description = nullptr;
    d.check(d.describe_resource(&description, &part, 1), "describing a partition");
    d.check(d.green_create(&green_, description, device_, kGreenContextDefaultStream),
            "making a green context");
    d.check(d.green_context(&context_, green_), "entering a green context");
    sms_ = static_cast<int>(part.sms);
  } catch (...) {
    if (green_) d.green_destroy(green_);
    d.context_release(device_);
    throw;
  }
}

DeviceContext::~DeviceContext() {
  if (green_) driver().green_destroy(green_);
  driver().context_release(device_);
}

EnteredContext::EnteredContext(Context context) {
  const Driver& d = driver();
  d.check(d.context_get(&before_), "asking for the current context");
  d.check(d.context_set(context), "entering a context");
}

EnteredContext::~EnteredContext() { driver().context_set(before_); }

struct CudaDevice::LoadedInstances : Loaded {
  Installed installed;
};

std::unique_ptr<gpu::Device::Entered> CudaDevice::enter() {
  return std::make_unique<EnteredContext>(context_.get());
}

CudaDevice::CudaDevice(const CudaOptions& options)
    : context_(options.ordinal, options.partition_sms),
      options_(options),
      slots_(options.instances) {
  const EnteredContext here(context_.get());
  if (slots_ < 1) throw Error("a device needs models, and at least one instance of each");
  free_slots_.resize(static_cast<std::size_t>(slots_));
  std::iota(free_slots_.rbegin(), free_slots_.rend(), 0);
  // Freed here if anything fails, while the context is current.
  auto notes = std::make_unique<NoteRing>(slots_, kRingMessages);
  const OwnedStream stream = make_stream();
  writes_values_ =
      driver().stream_write_value(stream.get(), notes->words_at(0) + offsetof(SlotWords, written),
                                  1, 0) == kSuccess;
  driver().check(driver().stream_synchronize(stream.get()), "trying the GPU");
  notes_ = std::move(notes);
}

CudaDevice::~CudaDevice() {
  port_.reset();
  driver().context_set(context_.get());
  driver().context_synchronize();
  streams_.clear();
  models_.clear();
  notes_.reset();
  driver().context_set(nullptr);
}

// ---- models

std::unique_ptr<gpu::Device::Loaded> CudaDevice::load(ModelSpec of) {
  if (!of.launch_plan) throw Error("model " + of.model.name + " has no launch plan");
  if (of.instances < 1) throw Error("a device needs models, and at least one instance of each");
  const auto instances = static_cast<std::size_t>(of.instances);
  if (instances > free_slots_.size()) {
    throw Error("there is room for " + std::to_string(free_slots_.size()) +
                " more instances, and " + of.launch_plan->name + " is to have " +
                std::to_string(of.instances));
  }
  auto loaded = std::make_unique<LoadedInstances>();
  Installed& installed = loaded->installed;
  installed.model = std::make_unique<LoadedModel>(std::move(*of.launch_plan));
  const OwnedStream stream = make_stream();
  for (std::size_t i = 0; i < instances; ++i) {
    const std::int32_t slot = free_slots_[free_slots_.size() - 1 - i];
    auto& instance = *installed.instances.emplace_back(std::make_unique<Instance>(
        *installed.model, *notes_, slot, options_.seed + static_cast<std::uint64_t>(slot)));
    instance.make_reference(stream.get());
    installed.free.push_back(&instance);
    prepare_graphs(instance, of.units, stream.get());
  }
  driver().check(driver().stream_synchronize(stream.get()), "uploading graphs");
  free_slots_.resize(free_slots_.size() - instances);
  return loaded;
}

void CudaDevice::install(std::int32_t index, std::unique_ptr<Loaded> loaded) {
  const auto m = static_cast<std::size_t>(index);
  if (m >= models_.size()) models_.resize(m + 1);
  models_[m] = std::move(static_cast<LoadedInstances&>(*loaded).installed);
}

std::unique_ptr<gpu::Device::Loaded> CudaDevice::remove(std::int32_t index) {
  while (use_spare_time()) continue;
  auto removed = std::make_unique<LoadedInstances>();
  removed->installed = std::exchange(models_[static_cast<std::size_t>(index)], Installed{});
  return removed;
}

void CudaDevice::unload(std::unique_ptr<Loaded> loaded) {
  for (const auto& instance : static_cast<LoadedInstances&>(*loaded).installed.instances) {
    free_slots_.push_back(instance->slot());
  }
}

void CudaDevice::add_memory(void* at, std::size_t bytes) {
  driver().check(driver().host_register(at, bytes, 0), "registering a client's memory");
}

void CudaDevice::remove_memory(void* at) { driver().host_unregister(at); }

std::vector<std::string> CudaDevice::outputs() const {
  std::vector<std::string> all;
  for (const Installed& model : models_) {
    for (const auto& instance : model.instances) all.push_back(instance->outputs());
  }
  return all;
}

// ---- a process

void CudaDevice::prepare_graphs(Instance& instance, const std::vector<WorkUnit>& units,
                                Stream capturing) const {
  for (const WorkUnit& unit : units) {
    const Telling telling = telling_of(unit);
    instance.prepare_graph(unit, telling, telling == Telling::kAll ? level_ : 1, capturing);
  }
}

Process CudaDevice::prepare(const ProcessSpec& process) {
  if (process.issuing_threads > 1) throw Error("on a real GPU one thread of a process issues jobs");
  const Driver& d = driver();
  level_ = static_cast<std::uint32_t>(process.notify_blocks);
  while (streams_.size() < static_cast<std::size_t>(process.streams)) {
    streams_.push_back(make_stream());
    if (!models_.empty()) models_.front().instances.front()->try_stream(streams_.back().get());
    d.check(d.stream_synchronize(streams_.back().get()), "trying a stream");
  }
  holding_.resize(std::max(holding_.size(), static_cast<std::size_t>(slots_) + 1));
  const OwnedStream capturing = make_stream();
  for (const WorkUnit& unit : process.units) {
    for (const auto& instance : models_[unit.model].instances) {
      prepare_graphs(*instance, {unit}, capturing.get());
    }
  }
  d.check(d.stream_synchronize(capturing.get()), "uploading graphs");
  port_.reset();  // the old one's watching thread ends before the new one's begins
  Process made;
  made.streams.resize(static_cast<std::size_t>(process.streams));
  std::iota(made.streams.begin(), made.streams.end(), 0);
  if (process.issuing_threads == 0) {
    port_ = std::make_unique<PollingPort>(*this);
  } else {
    port_ = std::make_unique<WatchedPort>(*this, process.watcher_cpu);
    made.issuing.push_back(port_.get());
  }
  made.port = port_.get();
  watchdog_ = std::make_unique<Watchdog>(options_.watchdog_s);
  checked_before_ = outputs_checked_;
  return made;
}

void CudaDevice::start_clock(TimeNs origin_ns) { port_->begin(origin_ns); }

TimeNs CudaDevice::now() const { return port_->now(); }

bool CudaDevice::tick(TimeNs) {
  port_->tick();
  return true;
}

bool CudaDevice::busy() const { return port_->in_flight() > 0; }

void CudaDevice::check_health() { watchdog_->look(*this, *port_); }

DeviceCounters CudaDevice::counters() const {
  DeviceCounters counters;
  counters.outputs_checked = outputs_checked_ - checked_before_;
  counters.handoffs_us = port_->handoffs_us();
  return counters;
}

// ---- a unit

// The instance that the unit's job has, or gets with its first unit.
Instance* CudaDevice::take_instance(const WorkUnit& unit) {
  const auto id = static_cast<std::size_t>(unit.id);
  if (id >= holding_.size()) holding_.resize(id + 1);
  if (!unit.copy_in) return holding_[id];
  auto& free = models_[unit.model].free;
  if (free.empty()) {
    const TimeNs before = monotonic_ns();
    while (free.empty() && use_spare_time()) continue;
    driver_ns_ += monotonic_ns() - before;
  }
  if (free.empty()) {
    throw Error("more jobs of " + name(unit.model) + " in flight than it has instances");
  }
  holding_[id] = free.back();
  free.pop_back();
  return holding_[id];
}

InFlight CudaDevice::submit(StreamId stream_id, const WorkUnit& unit) {
  Instance* const instance = take_instance(unit);
  const Telling telling = telling_of(unit);
  InFlight flight{unit.id, unit.model, instance};
  flight.job = unit.job;
  flight.of_client = unit.of_client;
  flight.first_kernel = unit.first_kernel;
  flight.last_kernel = unit.last_kernel;
  flight.stream = stream_id;
  flight.last = unit.copy_out;
  if (telling == Telling::kLast) ++instance->launches;
  if (telling == Telling::kAll) instance->launches += unit.last_kernel - unit.first_kernel;
  SlotWords& words = instance->words();
  const bool by_write = telling == Telling::kNone || ends_with_copy(unit);
  if (by_write) __atomic_store_n(&words.written, 0, __ATOMIC_RELEASE);
  flight.word = by_write ? &words.written : &words.finished;
  flight.expected = by_write ? 1 : instance->launches;

  const std::uint32_t at_level = telling == Telling::kAll ? level_ : 1;
  const Stream stream = streams_[stream_id].get();
  const TimeNs before = monotonic_ns();
  if (unit.as_graph) {
    instance->launch_graph(unit, telling, at_level, stream);
  } else {
    instance->enqueue(unit, telling, at_level, stream);
  }
  if (by_write) write_behind(*instance, stream);
  flight.submitted_ns = monotonic_ns();
  driver_ns_ += flight.submitted_ns - before;
  return flight;
}

void CudaDevice::write_behind(Instance& instance, Stream stream) const {
  const Driver& d = driver();
  const Pointer at = notes_->words_at(instance.slot()) + offsetof(SlotWords, written);
  d.check(writes_values_ ? d.stream_write_value(stream, at, 1, 0)
                         : d.launch_host(stream, &write_word, &instance.words().written),
          "asking for a notification");
}

void CudaDevice::release(const InFlight& unit) {
  if (unit.of_client) {
    models_[unit.model].free.push_back(unit.instance);
  } else {
    unchecked_.push_back(unit);
  }
}

bool CudaDevice::use_spare_time() {
  if (unchecked_.empty()) return false;
  const InFlight last = unchecked_.back();
  unchecked_.pop_back();
  ++outputs_checked_;
  if (!last.instance->right()) {
    throw Error("the output of a job of " + name(last.model) +
                (last.job < 0 ? " in the warm-up" : ", job " + std::to_string(last.job) + ",") +
                " is not what the model gives alone for the same input");
  }
  last.instance->poison();
  models_[last.model].free.push_back(last.instance);
  return true;
}

void CudaDevice::check_stream(StreamId stream) const {
  const Result result = driver().stream_query(streams_[stream].get());
  if (result != kNotReady) driver().check(result, "a kernel on the GPU");
}

}  // namespace paella::gpu::cuda
