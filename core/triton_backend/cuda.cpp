#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "executor.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/cuda_device.hpp"

namespace paella::triton {
namespace {

namespace cuda = gpu::cuda;

constexpr std::uint32_t kRingMessages = 1 << 16;
constexpr auto kHealthCheck = std::chrono::milliseconds(100);

std::int32_t count_instances(const Description& description) {
  std::int32_t count = 0;
  for (const DescribedModel& model : description.models) count += model.instances;
  return count;
}

void copy(ConstBytes from, Bytes to) { std::memcpy(to.data(), from.data(), to.size()); }

// Looks for the ends of all jobs, so that the server's threads need neither spin nor sleep in the
// driver, which knows only these two.
class Watcher {
 public:
  explicit Watcher(std::int32_t slots) : awaited_(slots), thread_([this] { watch(); }) {}
  ~Watcher() {
    stop_ = true;
    ++awaited_now_;  // wakes it
    awaited_now_.notify_one();
    thread_.join();
  }

  // Until the GPU has written into `word`, or the time is over; false then.
  template <class Duration>
  bool await(std::int32_t slot, const std::uint32_t* word, Duration limit) {
    Awaited& a = awaited_[slot];
    std::unique_lock lock(a.mutex);
    a.word.store(word, std::memory_order_release);
    if (awaited_now_++ == 0) awaited_now_.notify_one();
    const bool ended = a.ended.wait_for(
        lock, limit, [&] { return a.word.load(std::memory_order_acquire) == nullptr; });
    if (!ended) a.word.store(nullptr, std::memory_order_release);
    --awaited_now_;
    return ended;
  }

 private:
  struct Awaited {
    std::atomic<const std::uint32_t*> word{nullptr};
    std::mutex mutex;
    std::condition_variable ended;
  };

  void watch() {
    while (!stop_.load(std::memory_order_relaxed)) {
      awaited_now_.wait(0);
      for (Awaited& a : awaited_) {
        const std::uint32_t* word = a.word.load(std::memory_order_acquire);
        if (!word || cuda::NoteRing::load(word) == 0) continue;
        const std::lock_guard lock(a.mutex);
        a.word.store(nullptr, std::memory_order_release);
        a.ended.notify_one();
      }
    }
  }

  std::vector<Awaited> awaited_;
  std::atomic<int> awaited_now_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class CudaModels;

class CudaInstance final : public ModelInstance {
 public:
  CudaInstance(CudaModels& on, const cuda::LoadedModel& model, std::int32_t slot);
  ~CudaInstance() override;
  TimeNs execute(const std::vector<ConstBytes>& inputs, const std::vector<Bytes>& outputs) override;

 private:
  void await_end();

  CudaModels& on_;
  std::unique_ptr<cuda::Instance> instance_;
  cuda::OwnedStream stream_;
  gpu::WorkUnit unit_;
};

class CudaModels final : public Executor {
 public:
  explicit CudaModels(const Description& description)
      : description_(description),
        context_(description.gpu, description.partition_sms),
        models_(description.models.size()) {
    enter();
    const std::int32_t slots = count_instances(description);
    notes_ = std::make_unique<cuda::NoteRing>(slots, kRingMessages);
    watcher_ = std::make_unique<Watcher>(slots);
    const cuda::OwnedStream stream = cuda::make_stream();
    writes_values_ = cuda::driver().stream_write_value(stream.get(), written_at(0), 1, 0) ==
                     cuda::kSuccess;
    cuda::driver().check(cuda::driver().stream_synchronize(stream.get()), "trying the GPU");
  }

  ~CudaModels() override {
    enter();
    watcher_.reset();
    models_.clear();
    notes_.reset();
  }

  void load(std::size_t model) override {
    enter();
    models_[model] = std::make_unique<cuda::LoadedModel>(plan::read_plan(*description_.models[model].plan));
  }

  std::unique_ptr<ModelInstance> make_instance(std::size_t model) override {
    enter();
    const std::int32_t slot = slots_++;
    if (slot >= count_instances(description_)) throw Error("more instances than described");
    return std::make_unique<CudaInstance>(*this, *models_[model], slot);
  }

  // Makes the GPU the calling thread's.
  void enter() const {
    cuda::driver().check(cuda::driver().context_set(context_.get()), "entering a context");
  }
  // Tells `written` of the instance's slot when all before in the stream is done.
  void write_behind(cuda::Instance& instance, cuda::Stream stream) const {
    const cuda::Driver& d = cuda::driver();
    __atomic_store_n(&instance.words().written, 0, __ATOMIC_RELEASE);
    d.check(writes_values_ ? d.stream_write_value(stream, written_at(instance.slot()), 1, 0)
                           : d.launch_host(stream, &write_word, &instance.words().written),
            "asking for a notification");
  }
  const Description& description() const { return description_; }
  cuda::NoteRing& notes() { return *notes_; }
  Watcher& watcher() { return *watcher_; }

 private:
  cuda::Pointer written_at(std::int32_t slot) const {
    return notes_->words_at(slot) + offsetof(cuda::SlotWords, written);
  }
  static void write_word(void* word) {
    __atomic_store_n(static_cast<std::uint32_t*>(word), 1, __ATOMIC_RELEASE);
  }

  const Description description_;
  cuda::DeviceContext context_;
  std::unique_ptr<cuda::NoteRing> notes_;
  std::unique_ptr<Watcher> watcher_;
  std::vector<std::unique_ptr<cuda::LoadedModel>> models_;
  std::atomic<std::int32_t> slots_{0};
  bool writes_values_ = true;
};

CudaInstance::CudaInstance(CudaModels& on, const cuda::LoadedModel& model, std::int32_t slot)
    : on_(on),
      instance_(std::make_unique<cuda::Instance>(model, on.notes(), slot,
                                                 on.description().seed + slot)),
      stream_(cuda::make_stream()) {
  unit_.last_kernel = static_cast<std::int32_t>(model.kernels().size());
  unit_.copy_in = unit_.copy_out = true;
  unit_.as_graph = on.description().graphs;
  instance_->make_reference(stream_.get());
  if (unit_.as_graph) instance_->prepare_graph(unit_, cuda::Telling::kNone, 1, stream_.get());
  cuda::driver().check(cuda::driver().stream_synchronize(stream_.get()), "trying a stream");
}

CudaInstance::~CudaInstance() { on_.enter(); }

TimeNs CudaInstance::execute(const std::vector<ConstBytes>& inputs,
                             const std::vector<Bytes>& outputs) {
  on_.enter();
  const std::vector<Bytes>& to = instance_->host_inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) copy(inputs[i], to[i]);
  if (unit_.as_graph) {
    instance_->launch_graph(unit_, cuda::Telling::kNone, 1, stream_.get());
  } else {
    instance_->enqueue(unit_, cuda::Telling::kNone, 1, stream_.get());
  }
  on_.write_behind(*instance_, stream_.get());
  await_end();
  const std::vector<Bytes>& from = instance_->host_outputs();
  for (std::size_t i = 0; i < outputs.size(); ++i) copy(from[i], outputs[i]);
  return 0;
}

// A GPU that fails writes nothing.
void CudaInstance::await_end() {
  while (!on_.watcher().await(instance_->slot(), &instance_->words().written, kHealthCheck)) {
    const cuda::Result result = cuda::driver().stream_query(stream_.get());
    if (result != cuda::kNotReady) cuda::driver().check(result, "a kernel on the GPU");
    if (result == cuda::kSuccess) return;
  }
}

}  // namespace

std::unique_ptr<Executor> make_cuda(const Description& description) {
  return std::make_unique<CudaModels>(description);
}

}  // namespace paella::triton
