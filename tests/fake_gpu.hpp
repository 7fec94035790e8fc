#pragma once

// The GPU behind fake_cuda.cpp: streams, graphs, events, and kernels that do what their module says.
//
// Time is made up, for events: every stream has a clock; kernels and copies move it by their lengths
// and by what lies between two of them. Streams do not slow each other down.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Address = unsigned long long;

constexpr int kNotReady = 600, kOutOfMemory = 2, kIllegalAddress = 700;
constexpr double kGraphStartUs = 4.0, kGraphGapUs = 0.1, kStreamGapUs = 1.2, kCopyUs = 1.0;

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int number(const char* name) { return std::atoi(setting(name).c_str()); }

// The n-th call with the setting n.
bool its_turn(const char* name, std::atomic<int>& calls) { return ++calls == number(name); }

// Set in FAKE_CUDA_ATTRIBUTES as 16=4,75=9; else an attribute is its own number.
int device_attribute(int attribute) {
  const std::string set = "," + setting("FAKE_CUDA_ATTRIBUTES");
  const std::string key = "," + std::to_string(attribute) + "=";
  const std::size_t at = set.find(key);
  return at == std::string::npos ? attribute : std::atoi(set.c_str() + at + key.size());
}

// As well aligned as a driver's.
void* allocate(std::size_t bytes, std::size_t alignment) {
  const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
  return std::memset(std::aligned_alloc(alignment, size), 0, size);
}

std::atomic<int> handles{0};  // made and not yet destroyed
std::atomic<int> broken{0};   // what every call answers after a kernel has failed

struct Stream;

struct Operation {
  std::function<bool()> work;  // false: not yet
  double us = 0;               // that it takes
};

struct Graph {
  std::vector<Operation> operations;
  double us = 0;
  // While it is captured: each stream's time so far, and those whose work nothing waits for yet.
  Stream* origin = nullptr;
  std::map<Stream*, double> lanes;
  std::set<Stream*> open;
};

struct Stream {
  std::deque<Operation> operations;
  Graph* capturing = nullptr;
  double now = 0;  // us
};

struct Event {
  std::atomic<bool> done{true};
  double at = 0;
  bool timed = true;
  Graph* graph = nullptr;  // where it was recorded in a capture, of this stream
  Stream* from = nullptr;
};

struct Function {
  std::string symbol, kind, op;
  int arguments = 0, n = 0;
  bool listed = false;
  double us = 0, slope = 0, free = 0;  // slope: more, for every block per SM beyond `free`
  int regs = 32, smem = 0, blocks = 8, dynamic_smem = 0;

  bool instrumented() const { return kind == "instrumented"; }
  bool chained() const { return kind == "chained"; }
  double length(std::uint32_t grid) const {
    return us + slope * std::max(0.0, static_cast<double>(grid) / device_attribute(16) - free);
  }
};

struct Module {
  std::string text;
  std::vector<std::unique_ptr<Function>> functions;
};

// Lines of what was launched and asked for, where FAKE_CUDA_LOG is set.
class Log {
 public:
  void add(const std::string& line) {
    if (setting("FAKE_CUDA_LOG").empty()) return;
    const std::lock_guard lock(mutex_);
    text_ += line + "\n";
  }
  const char* text() {
    const std::lock_guard lock(mutex_);
    read_ = std::exchange(text_, "");
    return read_.c_str();
  }

 private:
  std::mutex mutex_;
  std::string text_, read_;
} activity;

class Gpu {
 public:
  ~Gpu() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    if (handles != 0 && broken == 0 && !hangs) {
      std::fprintf(stderr, "%d handles left\n", handles.load());
    }
  }
  int add(Stream* stream, std::function<bool()> work, double us = 0, double gap = kStreamGapUs) {
    const std::lock_guard lock(mutex_);
    if (broken) return broken;
    if (Graph* graph = stream->capturing) {
      graph->operations.push_back({std::move(work), 0});
      graph->lanes[stream] += us > 0 ? us + kGraphGapUs : 0;
      graph->open.insert(stream);
      return 0;
    }
    stream->operations.push_back({std::move(work), us > 0 ? us + gap + noise() : 0});
    streams_.insert(stream);
    if (!lazy_ && !thread_.joinable()) thread_ = std::thread([this] { run(); });
    return 0;
  }
  int add(Stream* stream, const Graph& graph) {
    std::size_t left = graph.operations.size();
    for (const Operation& operation : graph.operations) {
      const double us = --left == 0 ? kGraphStartUs + graph.us : 0;
      if (int answer = add(stream, operation.work, us, 0)) return answer;
    }
    return 0;
  }
  bool idle(Stream* stream) {
    if (lazy_) run_all();
    const std::lock_guard lock(mutex_);
    return stream->operations.empty();
  }
  bool all_idle() {
    if (lazy_) run_all();
    const std::lock_guard lock(mutex_);
    return streams_.empty();
  }
  template <class Idle>
  int wait(Idle idle) {
    while (!broken && !idle()) std::this_thread::yield();
    return broken;
  }
  void forget(Stream* stream) {
    const std::lock_guard lock(mutex_);
    if (next_ != streams_.end() && *next_ == stream) ++next_;
    streams_.erase(stream);
  }
  std::mutex& mutex() { return mutex_; }
  std::atomic<bool> hangs{false};

 private:
  double noise() {
    return noise_us_ > 0 ? std::abs(std::normal_distribution<>(0, noise_us_)(random_)) : 0;
  }
  bool step(std::set<Stream*>::iterator at) {
    auto& operations = (*at)->operations;
    if (broken || !operations.front().work()) return false;
    (*at)->now += operations.front().us;
    operations.pop_front();
    return true;
  }
  // For FAKE_CUDA_LAZY: the GPU works when the host asks it how far it is.
  void run_all() {
    const std::lock_guard lock(mutex_);
    for (bool worked = true; worked;) {
      worked = false;
      for (auto at = streams_.begin(); at != streams_.end();) {
        while (!(*at)->operations.empty() && step(at)) worked = true;
        at = (*at)->operations.empty() ? streams_.erase(at) : std::next(at);
      }
    }
    next_ = streams_.end();
  }
  void run() {
    const std::chrono::nanoseconds pace(number("FAKE_CUDA_PACE_NS"));
    while (!stop_) {
      bool worked = false;
      {
        const std::lock_guard lock(mutex_);
        // A round, or its next operation.
        if (next_ == streams_.end()) next_ = streams_.begin();
        while (next_ != streams_.end() && !(worked && pace.count())) {
          worked |= step(next_);
          next_ = (*next_)->operations.empty() ? streams_.erase(next_) : std::next(next_);
        }
      }
      if (!worked) std::this_thread::yield();
      const auto rested = std::chrono::steady_clock::now() + pace;
      while (worked && std::chrono::steady_clock::now() < rested) continue;
    }
  }

  const bool lazy_ = !setting("FAKE_CUDA_LAZY").empty();
  const double noise_us_ = std::atof(setting("FAKE_CUDA_NOISE_US").c_str());
  std::mt19937 random_{1};
  std::mutex mutex_;
  std::set<Stream*> streams_;  // with operations
  std::set<Stream*>::iterator next_ = streams_.end();
  std::atomic<bool> stop_{false};
  std::thread thread_;
} gpu;

// --- Kernels that tell, in notify.cuh's layouts.

struct Notes {
  Address ring_at, read_at;
  std::uint32_t ring_size, head, free, granted, reserved[8];
};
struct Slot {
  std::uint64_t done;
  Address owed_at[2];
  std::uint32_t owed[2], told_owed[2], index, started, ended, reserved[3];
};

void store(Address at, std::uint32_t value) {
  __atomic_store_n(reinterpret_cast<std::uint32_t*>(at), value, __ATOMIC_RELEASE);
}

std::uint32_t load(Address at) {
  return __atomic_load_n(reinterpret_cast<std::uint32_t*>(at), __ATOMIC_ACQUIRE);
}

void post(Slot* slot, std::uint64_t kind, std::uint32_t count) {
  auto* notes = reinterpret_cast<Notes*>(slot - slot->index) - 1;
  if (notes->head - load(notes->read_at) >= notes->ring_size) {
    slot->owed[kind] += count;
    return;
  }
  const std::uint32_t head = notes->head++;
  const std::uint64_t phase = (head & notes->ring_size) == 0;
  const std::uint64_t message =
      count | std::uint64_t{slot->index} << 32 | kind << 62 | phase << 63;
  auto* ring = reinterpret_cast<std::uint64_t*>(notes->ring_at);
  __atomic_store_n(ring + (head & (notes->ring_size - 1)), message, __ATOMIC_RELEASE);
}

void tell(Slot* slot, Address words, std::uint32_t level, std::uint32_t blocks) {
  if (level == 0) return;
  slot->done += std::uint64_t{1} << 32;
  const auto launches = static_cast<std::uint32_t>(slot->done >> 32);
  store(words + 4, load(words + 4) + 1);
  if (level > 1) {
    for (std::uint64_t kind = 0; kind < 2; ++kind) {
      for (std::uint32_t left = blocks; left > 0; left -= std::min(left, level)) {
        post(slot, kind, std::min(left, level));
      }
    }
    for (int kind = 0; kind < 2; ++kind) {
      if (slot->owed[kind] == 0) continue;
      slot->told_owed[kind] += slot->owed[kind];
      slot->owed[kind] = 0;
      store(slot->owed_at[kind], slot->told_owed[kind]);
    }
  }
  store(words, launches);
}

void compute(const Function& function, const std::vector<Address>& arguments) {
  const auto last = static_cast<std::size_t>(function.arguments - 1);
  if (function.op.empty()) {
    std::uint32_t mixed = 2166136261u;
    for (std::size_t i = 0; i < last; ++i) mixed = (mixed ^ load(arguments[i])) * 16777619u;
    store(arguments[last], mixed);
    return;
  }
  const auto* x = reinterpret_cast<const float*>(arguments[0]);
  const auto* w = reinterpret_cast<const float*>(arguments[1]);
  auto* y = reinterpret_cast<float*>(arguments[2]);
  for (int i = 0; i < function.n; ++i) {
    if (function.op == "forgets" && i == 3) continue;
    y[i] = std::max(x[i] * w[i], 0.0f);
    if (function.op == "wrong") y[i] *= 1.001f;
  }
}

int launch_listed(Stream* stream, const Function& function, const unsigned* grid,
                  void** parameters) {
  const std::uint32_t blocks = grid[0] * grid[1] * grid[2];
  const int more = function.instrumented() ? 2 : function.chained() ? 1 : 0;
  std::vector<Address> arguments;
  for (int i = 0; i < function.arguments + more; ++i) {
    arguments.push_back(*static_cast<Address*>(parameters[i]));
  }
  const std::uint32_t value =
      more ? *static_cast<std::uint32_t*>(parameters[function.arguments + more]) : 0;
  static std::atomic<int> faults{0}, hangs{0};
  const bool fails = its_turn("FAKE_CUDA_FAULT", faults);
  const bool hangs_now = its_turn("FAKE_CUDA_HANG", hangs);
  const std::string line = function.symbol + " " + std::to_string(grid[0]) + " " +
                           std::to_string(grid[1]) + " " + std::to_string(grid[2]) + " " +
                           function.kind + (more ? " " + std::to_string(value) : "");
  const auto work = [=, f = &function] {
    if (fails) broken = kIllegalAddress;
    if (hangs_now) gpu.hangs = true;
    if (fails || hangs_now) return false;
    activity.add(line);
    compute(*f, arguments);
    const auto behind = static_cast<std::size_t>(f->arguments);
    if (f->chained()) store(arguments[behind], value);
    if (f->instrumented()) {
      tell(reinterpret_cast<Slot*>(arguments[behind]), arguments[behind + 1], value, blocks);
    }
    return true;
  };
  return gpu.add(stream, work, function.length(blocks));
}

// Where `line` has ` key=`, what follows.
std::string field(const std::string& line, const char* key) {
  const std::size_t at = line.find(std::string(" ") + key + "=");
  if (at == std::string::npos) return "";
  const std::size_t from = line.find('=', at) + 1;
  return line.substr(from, line.find(' ', from) - from);
}

std::unique_ptr<Function> read_function(const std::string& line) {
  char symbol[256] = "", kind[256] = "";
  auto function = std::make_unique<Function>();
  // No stream of the standard library: a compiler that links it statically breaks its locales here.
  if (std::sscanf(line.c_str(), "kernel %255s %d %255s", symbol, &function->arguments, kind) != 3) {
    return nullptr;
  }
  function->symbol = symbol;
  function->kind = kind;
  function->listed = true;
  function->op = field(line, "op");
  function->n = std::atoi(field(line, "n").c_str());
  function->us = std::atof(field(line, "us").c_str());
  function->slope = std::atof(field(line, "slope").c_str());
  function->free = std::atof(field(line, "free").c_str());
  for (const auto& [key, value] : {std::pair("regs", &function->regs),
                                   {"smem", &function->smem}, {"blocks", &function->blocks}}) {
    if (const std::string set = field(line, key); !set.empty()) *value = std::atoi(set.c_str());
  }
  return function;
}

}  // namespace
