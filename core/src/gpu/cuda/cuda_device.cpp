#include "paella/gpu/cuda/cuda_device.hpp"

#include <numeric>

#include "paella/clock.hpp"
#include "paella/error.hpp"

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

CudaDevice::Entered::Entered(Context context) {
  const Driver& d = driver();
  d.check(d.context_get(&before_), "asking for the current context");
  d.check(d.context_set(context), "entering a context");
}

CudaDevice::Entered::~Entered() { driver().context_set(before_); }

CudaDevice::CudaDevice(std::vector<LaunchPlan> plans, const CudaOptions& options)
    : context_(options.ordinal, options.partition_sms) {
  const Entered here = enter();
  const std::int32_t count =
      std::accumulate(options.instances.begin(), options.instances.end(), std::int32_t{0});
  if (plans.empty() || options.instances.size() != plans.size() || count < 1) {
    throw Error("a device needs models, and at least one instance of each");
  }
  notes_ = std::make_unique<NoteRing>(count, kRingMessages);
  const OwnedStream stream = make_stream();
  for (std::size_t m = 0; m < plans.size(); ++m) {
    models_.push_back(std::make_unique<LoadedModel>(std::move(plans[m])));
    auto& free = free_.emplace_back();
    for (std::int32_t i = 0; i < options.instances[m]; ++i) {
      const auto slot = static_cast<std::int32_t>(instances_.size());
      instances_.push_back(
          std::make_unique<Instance>(*models_[m], *notes_, slot, options.seed + slot));
      instances_.back()->make_reference(stream.get());
      free.push_back(instances_.back().get());
    }
  }
  writes_values_ =
      driver().stream_write_value(stream.get(), notes_->words_at(0) + offsetof(SlotWords, written),
                                  1, 0) == kSuccess;
  driver().check(driver().stream_synchronize(stream.get()), "trying the GPU");
}

CudaDevice::~CudaDevice() {
  driver().context_set(context_.get());
  driver().context_synchronize();
  streams_.clear();
  instances_.clear();
  models_.clear();
  notes_.reset();
  driver().context_set(nullptr);
}

void CudaDevice::prepare(std::int32_t streams, const std::vector<WorkUnit>& units,
                         std::uint32_t level) {
  const Driver& d = driver();
  while (streams_.size() < static_cast<std::size_t>(streams)) {
    streams_.push_back(make_stream());
    instances_.front()->try_stream(streams_.back().get());
    d.check(d.stream_synchronize(streams_.back().get()), "trying a stream");
  }
  holding_.resize(std::max(holding_.size(), instances_.size() + 1));
  const OwnedStream capturing = make_stream();
  for (const WorkUnit& unit : units) {
    for (const auto& instance : instances_) {
      if (&instance->model() != models_[unit.model].get()) continue;
      const Telling telling = telling_of(unit);
      instance->prepare_graph(unit, telling, telling == Telling::kAll ? level : 1, capturing.get());
    }
  }
  d.check(d.stream_synchronize(capturing.get()), "uploading graphs");
}

InFlight CudaDevice::submit(StreamId stream_id, const WorkUnit& unit, std::uint32_t level) {
  if (static_cast<std::size_t>(unit.id) >= holding_.size()) holding_.resize(unit.id + 1);
  Instance*& instance = holding_[unit.id];
  if (unit.copy_in) {
    auto& free = free_[unit.model];
    if (free.empty()) {
      const TimeNs before = monotonic_ns();
      while (free.empty() && check_output()) continue;
      outside_ns_ += monotonic_ns() - before;
    }
    if (free.empty()) {
      throw Error("more jobs of " + name(unit.model) + " in flight than it has instances");
    }
    instance = free.back();
    free.pop_back();
  }
  const Telling telling = telling_of(unit);
  InFlight flight{unit.id, instance};
  flight.job = unit.job;
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

  const std::uint32_t at_level = telling == Telling::kAll ? level : 1;
  const Stream stream = streams_[stream_id].get();
  const TimeNs before = monotonic_ns();
  if (unit.as_graph) {
    instance->launch_graph(unit, telling, at_level, stream);
  } else {
    instance->enqueue(unit, telling, at_level, stream);
  }
  if (by_write) write_behind(*instance, stream);
  flight.submitted_ns = monotonic_ns();
  outside_ns_ += flight.submitted_ns - before;
  return flight;
}

void CudaDevice::write_behind(Instance& instance, Stream stream) const {
  const Driver& d = driver();
  const Pointer at = notes_->words_at(instance.slot()) + offsetof(SlotWords, written);
  d.check(writes_values_ ? d.stream_write_value(stream, at, 1, 0)
                         : d.launch_host(stream, &write_word, &instance.words().written),
          "asking for a notification");
}

bool CudaDevice::check_output() {
  if (unchecked_.empty()) return false;
  const auto [instance, job] = unchecked_.back();
  unchecked_.pop_back();
  ++outputs_checked_;
  if (!instance->right()) {
    throw Error("the output of a job of " + instance->model().plan().name +
                (job < 0 ? " in the warm-up" : ", job " + std::to_string(job) + ",") +
                " is not what the model gives alone for the same input");
  }
  instance->poison();
  for (std::size_t m = 0; m < models_.size(); ++m) {
    if (&instance->model() == models_[m].get()) free_[m].push_back(instance);
  }
  return true;
}

void CudaDevice::check_health(StreamId stream) const {
  const Result result = driver().stream_query(streams_[stream].get());
  if (result != kNotReady) driver().check(result, "a kernel on the GPU");
}

}  // namespace paella::gpu::cuda
