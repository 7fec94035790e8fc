#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "paella/gpu/cuda/cuda_device.hpp"

namespace paella::gpu::cuda {

// A GPU as programs use it that check or measure: its primary context, which it shares with other
// libraries of the process, and what is made on it. Calls may come from any thread, one at a time.
class OpenGpu : public std::enable_shared_from_this<OpenGpu> {
 public:
  // `meanwhile` is called some twenty times a second while a call waits; it may throw to end that.
  OpenGpu(int ordinal, std::function<void()> meanwhile);
  ~OpenGpu();

  // Makes the GPU the calling thread's until the end of the scope.
  EnteredContext enter() const { return EnteredContext(context_->get()); }

  // Returns when the stream's work is done. Error if it fails or takes longer than `limit_s`; the
  // GPU is lost then.
  void wait(Stream stream, double limit_s);
  // The same for all streams of make_stream().
  void wait_all(double limit_s);
  // Nothing on a lost GPU is freed, because the driver might wait for ever: the process has to end.
  bool lost() const { return lost_; }

  // `make` returns a new object, in this context. The object is freed in this context too, when all
  // streams are idle.
  template <class Make>
  auto make(Make make) {
    const auto here = enter();
    auto made = std::make_unique<decltype(make())>(make());
    return keep(std::move(made));
  }
  template <class T>
  std::shared_ptr<T> keep(std::unique_ptr<T> thing) {
    const auto gpu = shared_from_this();
    return std::shared_ptr<T>(thing.release(), [gpu](T* t) { gpu->free([t] { delete t; }); });
  }
  // A stream that wait_all() waits for.
  std::shared_ptr<OwnedStream> make_stream();

 private:
  void watch(Stream stream, double limit_s, const std::function<void()>& meanwhile);
  void watch_all(double limit_s, const std::function<void()>& meanwhile);
  void free(const std::function<void()>& destroy) noexcept;

  std::unique_ptr<DeviceContext> context_;
  std::function<void()> meanwhile_;
  std::atomic<bool> lost_{false};
  std::mutex mutex_;
  std::set<Stream> streams_;
};

}  // namespace paella::gpu::cuda
