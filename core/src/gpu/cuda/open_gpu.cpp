#include "paella/gpu/cuda/open_gpu.hpp"

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "paella/clock.hpp"
#include "paella/error.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr auto kLook = std::chrono::microseconds(20);
constexpr TimeNs kMeanwhile = 50'000'000;
constexpr double kFreeingLimitS = 60;

std::string seconds(double s) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", s);
  return text;
}

}  // namespace

OpenGpu::OpenGpu(int ordinal, std::function<void()> meanwhile)
    : context_(std::make_unique<DeviceContext>(ordinal, 0)), meanwhile_(std::move(meanwhile)) {}

OpenGpu::~OpenGpu() {
  if (lost_) (void)context_.release();
}

void OpenGpu::wait(Stream stream, double limit_s) { watch(stream, limit_s, meanwhile_); }

void OpenGpu::wait_all(double limit_s) { watch_all(limit_s, meanwhile_); }

void OpenGpu::watch(Stream stream, double limit_s, const std::function<void()>& meanwhile) {
  const auto here = enter();
  const Driver& d = driver();
  const TimeNs start = monotonic_ns();
  TimeNs next = start + kMeanwhile;
  for (;;) {
    const Result result = d.stream_query(stream);
    if (result == kSuccess) return;
    if (result != kNotReady) {
      lost_ = true;
      d.check(result, "work on the GPU");
    }
    const TimeNs now = monotonic_ns();
    if (static_cast<double>(now - start) > limit_s * 1e9) {
      lost_ = true;
      throw Error("the GPU has not finished within " + seconds(limit_s));
    }
    if (now >= next) {
      if (meanwhile) meanwhile();
      next = now + kMeanwhile;
    }
    std::this_thread::sleep_for(kLook);
  }
}

void OpenGpu::watch_all(double limit_s, const std::function<void()>& meanwhile) {
  std::set<Stream> streams;
  {
    const std::lock_guard lock(mutex_);
    streams = streams_;
  }
  for (const Stream stream : streams) watch(stream, limit_s, meanwhile);
}

std::shared_ptr<OwnedStream> OpenGpu::make_stream() {
  const auto here = enter();
  auto made = std::make_unique<OwnedStream>(cuda::make_stream());
  const Stream stream = made->get();
  const std::lock_guard lock(mutex_);
  streams_.insert(stream);
  const auto gpu = shared_from_this();
  return std::shared_ptr<OwnedStream>(made.release(), [gpu, stream](OwnedStream* s) {
    gpu->free([&] {
      const std::lock_guard own(gpu->mutex_);
      gpu->streams_.erase(stream);
      delete s;
    });
  });
}

void OpenGpu::free(const std::function<void()>& destroy) noexcept {
  if (lost_) return;
  try {
    watch_all(kFreeingLimitS, nullptr);  // an interrupt is for the calls that can report it
    const auto here = enter();
    destroy();
  } catch (...) {
    lost_ = true;  // what could not be freed stays
  }
}

}  // namespace paella::gpu::cuda
