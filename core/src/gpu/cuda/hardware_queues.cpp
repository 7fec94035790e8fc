#include <functional>

#include "paella/gpu/cuda/probe.hpp"
#include "probe_kernels.hpp"
#include "stopwatch.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr int kChain = 8;
constexpr std::uint64_t kChainedNs = 95'000;
constexpr std::uint64_t kIndependentNs = 550'000;
constexpr int kRepetitions = 5;

std::vector<OwnedStream> make_streams(int count) {
  std::vector<OwnedStream> streams;
  for (int i = 0; i < count; ++i) streams.push_back(make_stream());
  return streams;
}

void finish_all() {
  driver().check(driver().context_synchronize(), "waiting for the kernels");
}

class QueueProbe {
 public:
  // Time from the gate's opening until everything that `issue` has issued is done.
  std::optional<double> behind_gate(const std::vector<OwnedStream>& streams,
                                    const std::function<void()>& issue) {
    const Driver& d = driver();
    const Stopwatch issuing;
    kernels_.gate(gate_stream_.get(), gate_.on_device(), ++opened_);
    d.check(d.event_record(gate_event_.get(), gate_stream_.get()), "recording an event");
    for (const auto& stream : streams) {
      d.check(d.stream_wait_event(stream.get(), gate_event_.get(), 0), "waiting for an event");
    }
    issue();
    const bool in_time = issuing.us() < 0.9 * ProbeKernels::kGateLimitUs;
    const Stopwatch running;
    *static_cast<volatile std::uint32_t*>(gate_.as<std::uint32_t>()) = opened_;
    finish_all();
    return in_time ? std::optional(running.us()) : std::nullopt;
  }

  std::optional<double> chained(int count, bool job_by_job) {
    const auto streams = make_streams(count);
    for (const auto& stream : streams) kernels_.empty(stream.get());
    finish_all();
    return repeated([&] {
      return behind_gate(streams, [&] {
        for (int i = 0; i < count * kChain; ++i) {
          kernels_.spin(streams[job_by_job ? i / kChain : i % count].get(), kChainedNs);
        }
      });
    });
  }

  std::optional<double> independent(int count) {
    const auto streams = make_streams(count);
    for (const auto& stream : streams) kernels_.empty(stream.get());
    finish_all();
    return repeated([&] {
      const Stopwatch watch;
      for (const auto& stream : streams) kernels_.spin(stream.get(), kIndependentNs);
      finish_all();
      return std::optional(watch.us());
    });
  }

 private:
  static std::optional<double> repeated(const std::function<std::optional<double>()>& measure) {
    std::vector<double> values;
    for (int i = 0; i < kRepetitions; ++i) {
      const auto value = measure();
      if (!value) return std::nullopt;
      values.push_back(*value);
    }
    return median(values);
  }

  ProbeKernels kernels_;
  OwnedStream gate_stream_ = make_stream();
  OwnedEvent gate_event_ = make_event();
  MappedMemory gate_{64};
  std::uint32_t opened_ = 0;
};

}  // namespace

QueueTimes measure_hardware_queues(int device) {
  const CurrentContext context(device);
  QueueProbe probe;
  QueueTimes result;
  result.chained_kernel_us = probe.chained(1, true).value_or(0) / kChain;
  for (const bool job_by_job : {true, false}) {
    for (const int streams : {8, 16, 32, 64, 128}) {
      result.times.push_back({job_by_job ? "job_by_job" : "kernel_by_kernel", streams,
                              probe.chained(streams, job_by_job)});
    }
  }
  for (const int streams : {8, 32, 64, 128, 256}) {
    result.times.push_back({"independent", streams, probe.independent(streams)});
  }
  return result;
}

}  // namespace paella::gpu::cuda
