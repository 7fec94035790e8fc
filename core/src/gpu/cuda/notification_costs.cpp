#include "notification_costs.hpp"

#include <atomic>
#include <exception>
#include <fstream>
#include <functional>
#include <thread>
#include <utility>

#include "paella/on_cpu.hpp"
#include "stopwatch.hpp"

namespace paella::gpu::cuda {
namespace {

// Socket and core of a CPU; CPUs of which it is unknown are taken for cores of their own.
std::pair<int, int> core_of(int cpu) {
  const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
  int socket = -1, core = cpu;
  std::ifstream(folder + "physical_package_id") >> socket;
  if (!(std::ifstream(folder + "core_id") >> core)) core = cpu;
  return {socket, core};
}

// Where the issuing thread runs, and where the others may that look for it.
struct Cpus {
  int issuing = 0;
  std::optional<int> same_core, other_core;

  Cpus() {
    const cpu_set_t allowed = allowed_cpus();
    while (issuing < CPU_SETSIZE - 1 && !CPU_ISSET(issuing, &allowed)) ++issuing;
    for (int cpu = issuing + 1; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      auto& found = core_of(cpu) == core_of(issuing) ? same_core : other_core;
      if (!found) found = cpu;
    }
  }
};

// Issues an empty kernel with its notification, and knows how to look for it. Launches count from 1.
struct Kind {
  const char* name;
  std::function<void(std::uint32_t)> issue;
  std::function<bool(std::uint32_t)> seen;
};

Spread by_same_thread(const Kind& kind, Stream stream, int cpu, int repetitions) {
  const OnCpu here(cpu);
  std::vector<double> us;
  for (int i = 1; i <= repetitions; ++i) {
    const Stopwatch watch;
    kind.issue(i);
    wait_until([&] { return kind.seen(i); }, kind.name);
    us.push_back(watch.us());
    driver().check(driver().stream_synchronize(stream), "waiting for a stream");
  }
  return spread(us);
}

Spread by_other_thread(const Kind& kind, Stream stream, Context context, int cpu, int other_cpu,
                       int repetitions) {
  std::atomic<int> issued{0};
  std::atomic<int> noticed{0};
  std::atomic<bool> stop{false};
  std::exception_ptr failure;
  std::vector<std::int64_t> seen_at(repetitions + 1);
  std::thread poller([&] {
    try {
      const OnCpu here(other_cpu);
      driver().check(driver().context_set(context), "entering a context");
      for (int i = 1; i <= repetitions; ++i) {
        while (issued.load(std::memory_order_acquire) < i) {
          if (stop) return;
        }
        wait_until([&] { return kind.seen(i); }, kind.name);
        seen_at[i] = now_ns();
        noticed.store(i, std::memory_order_release);
      }
    } catch (...) {
      failure = std::current_exception();
      noticed = repetitions;
    }
  });
  std::vector<double> us;
  std::exception_ptr own_failure;
  try {
    const OnCpu here(cpu);
    for (int i = 1; i <= repetitions; ++i) {
      const std::int64_t start = now_ns();
      kind.issue(i);
      issued.store(i, std::memory_order_release);
      while (noticed.load(std::memory_order_acquire) < i) {
      }
      us.push_back(static_cast<double>(seen_at[i] - start) / 1000);
      driver().check(driver().stream_synchronize(stream), "waiting for a stream");
    }
  } catch (...) {
    own_failure = std::current_exception();
  }
  stop = true;
  poller.join();
  if (failure) std::rethrow_exception(failure);
  if (own_failure) std::rethrow_exception(own_failure);
  return spread(us);
}

void add_one(void* count) { ++*static_cast<std::atomic<std::uint32_t>*>(count); }

}  // namespace

std::vector<NotificationCost> notification_costs(const ProbeKernels& kernels, Context context,
                                                 int repetitions) {
  const Driver& d = driver();
  std::vector<NotificationCost> costs;
  const Cpus cpus;
  const std::pair<const char*, std::optional<int>> places[] = {{"same_thread", cpus.issuing},
                                                               {"same_core", cpus.same_core},
                                                               {"other_core", cpus.other_core}};
  for (const auto& [seen_by, cpu] : places) {
    if (!cpu) continue;
    const OwnedStream stream = make_stream();
    const Stream s = stream.get();
    const OwnedEvent event = make_event();
    const MappedMemory mapped(128);
    std::uint32_t* written = mapped.as<std::uint32_t>();
    std::uint32_t* stored = written + 16;
    std::atomic<std::uint32_t> called{0};
    const auto reads = [](const std::uint32_t* word) {
      return [word](std::uint32_t i) { return __atomic_load_n(word, __ATOMIC_ACQUIRE) == i; };
    };
    const auto done = [&d](Result result, const char* doing) {
      if (result != kNotReady) d.check(result, doing);
      return result == kSuccess;
    };
    std::vector<Kind> kinds{
        {"kernel_flag", [&](std::uint32_t i) { kernels.flag(s, mapped.on_device(), i); },
         reads(written)},
        {"event_query",
         [&](std::uint32_t) {
           kernels.empty(s);
           d.check(d.event_record(event.get(), s), "recording an event");
         },
         [&](std::uint32_t) { return done(d.event_query(event.get()), "querying an event"); }},
        {"stream_query", [&](std::uint32_t) { kernels.empty(s); },
         [&](std::uint32_t) { return done(d.stream_query(s), "querying a stream"); }},
        {"host_function",
         [&](std::uint32_t) {
           kernels.empty(s);
           d.check(d.launch_host(s, add_one, &called), "issuing a host function");
         },
         [&](std::uint32_t i) { return called.load(std::memory_order_acquire) == i; }},
    };
    if (d.stream_write_value(s, mapped.on_device() + 64, 0, 0) == kSuccess) {
      kinds.push_back({"write_value",
                       [&](std::uint32_t i) {
                         kernels.empty(s);
                         d.check(d.stream_write_value(s, mapped.on_device() + 64, i, 0),
                                 "issuing a write");
                       },
                       reads(stored)});
    }
    for (const Kind& kind : kinds) {
      const Spread latency =
          *cpu == cpus.issuing
              ? by_same_thread(kind, s, cpus.issuing, repetitions)
              : by_other_thread(kind, s, context, cpus.issuing, *cpu, repetitions);
      costs.push_back({kind.name, seen_by, latency});
    }
  }
  return costs;
}

}  // namespace paella::gpu::cuda
