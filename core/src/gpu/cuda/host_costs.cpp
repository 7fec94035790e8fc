#include <functional>

#include "notification_costs.hpp"
#include "paella/gpu/cuda/probe.hpp"
#include "stopwatch.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr int kBatch = 128;  // operations timed together: few enough that the queue never is full
constexpr std::int64_t kCopyInBytes = 602'112;  // an image of the paper's models, and its result
constexpr std::int64_t kCopyOutBytes = 4000;

class HostProbe {
 public:
  explicit HostProbe(int repetitions) : repetitions_(repetitions) {
    kernels_.empty(stream());
    finish();
  }

  LaunchCost launches(int count) {
    std::vector<OwnedStream> streams;
    for (int i = 0; i < count; ++i) streams.push_back(make_stream());
    int next = 0;
    const auto issue = [&] { kernels_.empty(streams[next++ % count].get()); };
    for (int i = 0; i < 2 * count; ++i) issue();
    driver().check(driver().context_synchronize(), "waiting for the streams");
    return {count, batched(issue, [&] {
              driver().check(driver().context_synchronize(), "waiting for the streams");
            })};
  }

  double first_launch_us() {
    std::vector<double> first, second;
    for (int i = 0; i < std::min(repetitions_, 100); ++i) {
      const OwnedStream stream = make_stream();
      for (auto* us : {&first, &second}) {
        const Stopwatch watch;
        kernels_.empty(stream.get());
        us->push_back(watch.us());
        driver().check(driver().stream_synchronize(stream.get()), "waiting for a stream");
      }
    }
    return median(first) - median(second);
  }

  GraphCost graph(int count) {
    const Driver& d = driver();
    d.check(d.capture_begin(stream(), kCaptureThreadLocal), "beginning a capture");
    for (int i = 0; i < count; ++i) kernels_.empty(stream());
    Graph captured = nullptr;
    d.check(d.capture_end(stream(), &captured), "ending a capture");
    const OwnedGraph graph(captured);
    GraphExec instance = nullptr;
    d.check(d.graph_instantiate(&instance, captured, 0), "instantiating a graph");
    const OwnedGraphExec executable(instance);
    const auto times = issue_and_sync(
        [&] { d.check(d.graph_launch(instance, stream()), "launching a graph"); });
    return {count, times.first, times.second};
  }

  // CPU time of one call that puts an operation into an idle stream.
  double call_us(const std::function<Result()>& call, const char* doing) {
    return batched([&] { driver().check(call(), doing); }, [&] { finish(); });
  }

  std::optional<double> write_value_us() {
    const auto write = [&] { return driver().stream_write_value(stream(), word(), 1, 0); };
    if (write() != kSuccess) return std::nullopt;
    return call_us(write, "issuing a write");
  }

  double event_record_us() {
    return call_us([&] { return driver().event_record(event_.get(), stream()); },
                   "recording an event");
  }

  double host_function_us() {
    return call_us([&] { return driver().launch_host(stream(), [](void*) {}, nullptr); },
                   "issuing a host function");
  }

  double stream_query_us(bool busy) {
    return query_us(busy, [&] { return driver().stream_query(stream()); });
  }

  double event_query_us() {
    return query_us(true, [&] { return driver().event_query(event_.get()); });
  }

  double poll_unchanged_ns() {
    constexpr int kReads = 100'000;
    volatile const std::uint32_t* at = mapped_.as<std::uint32_t>();
    std::vector<double> ns;
    for (int batch = 0; batch < 16; ++batch) {
      const std::int64_t start = now_ns();
      for (int i = 0; i < kReads; ++i) static_cast<void>(*at);
      ns.push_back(static_cast<double>(now_ns() - start) / kReads);
    }
    return median(ns);
  }

  double poll_changed_ns() {
    volatile const std::uint32_t* at = mapped_.as<std::uint32_t>();
    std::vector<double> ns, clock_ns;
    for (int i = 1; i <= repetitions_; ++i) {
      const std::uint32_t value = *at + 1;
      kernels_.flag(stream(), word(), value);
      wait_until(
          [&] {
            const std::int64_t start = now_ns();
            const bool changed = *at == value;
            const std::int64_t end = now_ns();
            if (changed) {
              ns.push_back(static_cast<double>(end - start));
              clock_ns.push_back(static_cast<double>(now_ns() - end));
            }
            return changed;
          },
          "a kernel's flag");
      finish();
    }
    return std::max(median(ns) - median(clock_ns), 0.0);
  }

  CopyCost copy(std::int64_t bytes, bool in) {
    const MappedMemory host(bytes);
    const OwnedMemory device = make_memory(bytes);
    const Driver& d = driver();
    const auto times = issue_and_sync([&] {
      d.check(in ? d.copy_in(device.get(), host.as<void>(), bytes, stream())
                 : d.copy_out(host.as<void>(), device.get(), bytes, stream()),
              "issuing a copy");
    });
    return {bytes, times.first, times.second};
  }

  const ProbeKernels& kernels() const { return kernels_; }
  int repetitions() const { return repetitions_; }

 private:
  Stream stream() const { return stream_.get(); }
  Pointer word() const { return mapped_.on_device(); }
  void finish() { driver().check(driver().stream_synchronize(stream()), "waiting for a stream"); }

  // Median over batches of the time of one call.
  double batched(const std::function<void()>& issue, const std::function<void()>& settle) {
    std::vector<double> us;
    for (int done = 0; done < repetitions_ + kBatch; done += kBatch) {
      const Stopwatch watch;
      for (int i = 0; i < kBatch; ++i) issue();
      us.push_back(watch.us() / kBatch);
      settle();
    }
    return median(us);
  }

  std::pair<double, double> issue_and_sync(const std::function<void()>& issue) {
    std::vector<double> issue_us, done_us;
    for (int i = -10; i < repetitions_; ++i) {
      const Stopwatch watch;
      issue();
      const double issued = watch.us();
      finish();
      if (i < 0) continue;  // the first ones allocate
      issue_us.push_back(issued);
      done_us.push_back(watch.us());
    }
    return {median(issue_us), median(done_us)};
  }

  double query_us(bool busy, const std::function<Result()>& query) {
    std::vector<double> us;
    for (int i = 0; i < 16; ++i) {
      if (busy) {
        kernels_.spin(stream(), 1'000'000);
        driver().check(driver().event_record(event_.get(), stream()), "recording an event");
      }
      const Stopwatch watch;
      for (int k = 0; k < kBatch; ++k) {
        const Result result = query();
        if (result != kNotReady) driver().check(result, "querying");
      }
      us.push_back(watch.us() / kBatch);
      finish();
    }
    return median(us);
  }

  const int repetitions_;
  ProbeKernels kernels_;
  OwnedStream stream_ = make_stream();
  OwnedEvent event_ = make_event();
  MappedMemory mapped_{64};
};

}  // namespace

HostCosts measure_host_costs(int device, int repetitions) {
  const CurrentContext context(device);
  HostProbe probe(repetitions);
  HostCosts costs;
  for (const int streams : {1, 8, 32, 64}) costs.launches.push_back(probe.launches(streams));
  costs.first_launch_us = probe.first_launch_us();
  for (const int kernels : {1, 16, 54}) costs.graphs.push_back(probe.graph(kernels));
  costs.write_value_us = probe.write_value_us();
  costs.event_record_us = probe.event_record_us();
  costs.host_function_us = probe.host_function_us();
  costs.stream_query_idle_us = probe.stream_query_us(false);
  costs.stream_query_busy_us = probe.stream_query_us(true);
  costs.event_query_busy_us = probe.event_query_us();
  costs.notifications = notification_costs(probe.kernels(), context.get(), probe.repetitions());
  costs.poll_unchanged_ns = probe.poll_unchanged_ns();
  costs.poll_changed_ns = probe.poll_changed_ns();
  costs.copy_in = probe.copy(kCopyInBytes, true);
  costs.copy_out = probe.copy(kCopyOutBytes, false);
  return costs;
}

}  // namespace paella::gpu::cuda
