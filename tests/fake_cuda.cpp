// A CUDA driver without a GPU, as far as the package uses one. Streams run in a thread of their own,
// one operation of each in turn; kernels do what their names and modules say. Compiled by
// tests.
//
// A module is PTX with `.target sm_75`, whose kernel `flag` writes a word and whose others do
// nothing; or a text of lines `kernel SYMBOL ARGUMENTS KIND`, KIND plain or instrumented. Such a
// kernel mixes the first words of all arguments but the last into the first word of the last, and
// tells of itself as notify.cuh says.
//
// Faults, by environment: FAKE_CUDA_INIT, FAKE_CUDA_LAUNCH, FAKE_CUDA_IMAGE (what these calls
// answer); FAKE_CUDA_MEMORY, FAKE_CUDA_FAULT, FAKE_CUDA_HANG, FAKE_CUDA_WRONG (the n-th allocation
// fails, kernel fails or never ends, copy to the host is wrong); FAKE_CUDA_NO_WRITE. With
// FAKE_CUDA_PACE_NS the thread rests for so long between two operations.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define FAKE extern "C" __attribute__((visibility("default"))) int

namespace {

using Operation = std::function<bool()>;  // false: not yet
using Address = unsigned long long;

constexpr int kNotReady = 600, kOutOfMemory = 2, kIllegalAddress = 700;

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int number(const char* name) { return std::atoi(setting(name).c_str()); }

// The n-th call with the setting n.
bool its_turn(const char* name, std::atomic<int>& calls) { return ++calls == number(name); }

// As well aligned as a driver's.
void* allocate(std::size_t bytes, std::size_t alignment) {
  const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
  return std::memset(std::aligned_alloc(alignment, size), 0, size);
}

std::atomic<int> handles{0};  // made and not yet destroyed
std::atomic<int> broken{0};   // what every call answers after a kernel has failed

struct Graph {
  std::vector<Operation> operations;
};

struct Stream {
  std::deque<Operation> operations;
  Graph* capturing = nullptr;
};

struct Event {
  std::atomic<bool> done{true};
};

struct Function {
  std::string symbol;
  int arguments = 0;
  bool listed = false, instrumented = false;
};

struct Module {
  std::string text;
  std::vector<std::unique_ptr<Function>> functions;
};

class Gpu {
 public:
  ~Gpu() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    if (handles != 0 && broken == 0 && !hangs) {
      std::fprintf(stderr, "%d handles left\n", handles.load());
    }
  }
  int add(Stream* stream, Operation operation) {
    const std::lock_guard lock(mutex_);
    if (broken) return broken;
    if (stream->capturing) {
      stream->capturing->operations.push_back(std::move(operation));
      return 0;
    }
    stream->operations.push_back(std::move(operation));
    streams_.insert(stream);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    return 0;
  }
  bool idle(Stream* stream) {
    const std::lock_guard lock(mutex_);
    return stream->operations.empty();
  }
  bool all_idle() {
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
  std::atomic<bool> hangs{false};

 private:
  void run() {
    const std::chrono::nanoseconds pace(number("FAKE_CUDA_PACE_NS"));
    while (!stop_) {
      bool worked = false;
      {
        const std::lock_guard lock(mutex_);
        // A round, or its next operation.
        if (next_ == streams_.end()) next_ = streams_.begin();
        while (next_ != streams_.end() && !(worked && pace.count())) {
          auto& operations = (*next_)->operations;
          if (!broken && operations.front()()) {
            operations.pop_front();
            worked = true;
          }
          next_ = operations.empty() ? streams_.erase(next_) : std::next(next_);
        }
      }
      if (!worked) std::this_thread::yield();
      const auto rested = std::chrono::steady_clock::now() + pace;
      while (worked && std::chrono::steady_clock::now() < rested) continue;
    }
  }

  std::mutex mutex_;
  std::set<Stream*> streams_;  // with operations
  std::set<Stream*>::iterator next_ = streams_.end();
  std::atomic<bool> stop_{false};
  std::thread thread_;
} gpu;

template <class T>
int make(void** handle, T* thing) {
  if (broken) return delete thing, broken.load();
  ++handles;
  *handle = thing;
  return 0;
}

template <class T>
int destroy(void* handle) {
  delete static_cast<T*>(handle);
  return --handles < 0 ? 400 : 0;
}

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

int launch_listed(Stream* stream, const Function& function, std::uint32_t blocks,
                  void** parameters) {
  std::vector<Address> arguments;
  for (int i = 0; i < function.arguments + 2 * function.instrumented; ++i) {
    arguments.push_back(*static_cast<Address*>(parameters[i]));
  }
  const std::uint32_t level =
      function.instrumented ? *static_cast<std::uint32_t*>(parameters[function.arguments + 2]) : 0;
  static std::atomic<int> faults{0}, hangs{0};
  const bool fails = its_turn("FAKE_CUDA_FAULT", faults);
  const bool hangs_now = its_turn("FAKE_CUDA_HANG", hangs);
  return gpu.add(stream, [=, count = function.arguments, tells = function.instrumented] {
    if (fails) broken = kIllegalAddress;
    if (hangs_now) gpu.hangs = true;
    if (fails || hangs_now) return false;
    std::uint32_t mixed = 2166136261u;
    for (int i = 0; i + 1 < count; ++i) mixed = (mixed ^ load(arguments[i])) * 16777619u;
    store(arguments[count - 1], mixed);
    if (tells) {
      tell(reinterpret_cast<Slot*>(arguments[count]), arguments[count + 1], level, blocks);
    }
    return true;
  });
}

}  // namespace

FAKE cuInit(unsigned) { return number("FAKE_CUDA_INIT"); }
FAKE cuDriverGetVersion(int* version) { return *version = 13000, 0; }
FAKE cuGetErrorName(int error, const char** text) {
  switch (error) {
    case 100: return *text = "CUDA_ERROR_NO_DEVICE", 0;
    case kOutOfMemory: return *text = "CUDA_ERROR_OUT_OF_MEMORY", 0;
    case kIllegalAddress: return *text = "CUDA_ERROR_ILLEGAL_ADDRESS", 0;
    case 209: return *text = "CUDA_ERROR_NO_BINARY_FOR_GPU", 0;
  }
  return *text = "CUDA_ERROR_OTHER", 0;
}
FAKE cuGetErrorString(int error, const char** text) {
  return *text = error == 100 ? "no CUDA-capable device is detected" : "something else", 0;
}
FAKE cuDeviceGetCount(int* count) { return *count = 2, 0; }
FAKE cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal < 2 ? 0 : 101; }
FAKE cuDeviceGetName(char* name, int length, int device) {
  return std::snprintf(name, length, "Fake %d", device), 0;
}
FAKE cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute, 0; }
FAKE cuDeviceTotalMem_v2(std::size_t* bytes, int) { return *bytes = std::size_t{80} << 30, 0; }
FAKE cuDevicePrimaryCtxRetain(void** context, int) { return make(context, new char); }
FAKE cuDevicePrimaryCtxRelease_v2(int) { return --handles < 0 ? 400 : 0; }
FAKE cuCtxGetCurrent(void** context) { return *context = nullptr, 0; }
FAKE cuCtxSetCurrent(void*) { return 0; }
FAKE cuCtxSynchronize() {
  return gpu.wait([] { return gpu.all_idle(); });
}
FAKE cuModuleLoadData(void** module, const void* image) {
  if (int answer = number("FAKE_CUDA_IMAGE")) return answer;
  auto* made = new Module{static_cast<const char*>(image), {}};
  // No stream of the standard library: a compiler that links it statically breaks its locales here.
  for (const char* line = made->text.c_str(); line; line = std::strchr(line, '\n')) {
    line += *line == '\n';
    char symbol[256] = "", kind[256] = "";
    auto function = std::make_unique<Function>();
    if (std::sscanf(line, "kernel %255s %d %255s", symbol, &function->arguments, kind) != 3) continue;
    function->symbol = symbol;
    function->listed = true;
    function->instrumented = std::strcmp(kind, "instrumented") == 0;
    made->functions.push_back(std::move(function));
  }
  if (made->functions.empty() && made->text.find(".target sm_75") == std::string::npos) {
    return delete made, 200;
  }
  return make(module, made);
}
FAKE cuModuleUnload(void* module) { return destroy<Module>(module); }
FAKE cuModuleGetFunction(void** function, void* handle, const char* name) {
  auto& functions = static_cast<Module*>(handle)->functions;
  for (const auto& known : functions) {
    if (known->symbol == name) return *function = known.get(), 0;
  }
  if (!functions.empty() && functions.front()->listed) return 500;
  functions.push_back(std::make_unique<Function>());
  functions.back()->symbol = name;
  return *function = functions.back().get(), 0;
}
FAKE cuFuncSetAttribute(void*, int, int) { return 0; }
FAKE cuLaunchKernel(void* handle, unsigned x, unsigned y, unsigned z, unsigned, unsigned, unsigned,
                    unsigned, void* stream, void** parameters, void**) {
  if (int answer = number("FAKE_CUDA_LAUNCH")) return answer;
  const auto& function = *static_cast<Function*>(handle);
  if (function.listed) {
    return launch_listed(static_cast<Stream*>(stream), function, x * y * z, parameters);
  }
  if (function.symbol != "flag") {
    return gpu.add(static_cast<Stream*>(stream), [] { return true; });
  }
  const Address at = *static_cast<Address*>(parameters[0]);
  const std::uint32_t value = *static_cast<std::uint32_t*>(parameters[1]);
  return gpu.add(static_cast<Stream*>(stream), [=] { return store(at, value), true; });
}
FAKE cuLaunchHostFunc(void* stream, void (*function)(void*), void* argument) {
  return gpu.add(static_cast<Stream*>(stream), [=] { return function(argument), true; });
}
FAKE cuStreamCreate(void** stream, unsigned) { return make(stream, new Stream); }
FAKE cuStreamDestroy_v2(void* stream) {
  gpu.wait([&] { return gpu.idle(static_cast<Stream*>(stream)); });
  gpu.forget(static_cast<Stream*>(stream));
  return destroy<Stream>(stream);
}
FAKE cuStreamQuery(void* stream) {
  if (broken) return broken;
  return gpu.idle(static_cast<Stream*>(stream)) ? 0 : kNotReady;
}
FAKE cuStreamSynchronize(void* stream) {
  return gpu.wait([&] { return gpu.idle(static_cast<Stream*>(stream)); });
}
FAKE cuStreamWaitEvent(void* stream, void* event, unsigned) {
  return gpu.add(static_cast<Stream*>(stream),
                 [=] { return static_cast<Event*>(event)->done.load(); });
}
#ifndef FAKE_CUDA_OLD
FAKE cuStreamWriteValue32_v2(void* stream, Address at, std::uint32_t value, unsigned) {
  if (!setting("FAKE_CUDA_NO_WRITE").empty()) return 801;
  return gpu.add(static_cast<Stream*>(stream), [=] { return store(at, value), true; });
}
#endif
FAKE cuStreamBeginCapture_v2(void* stream, int) {
  return static_cast<Stream*>(stream)->capturing = new Graph, broken.load();
}
FAKE cuStreamEndCapture(void* stream, void** graph) {
  auto& capturing = static_cast<Stream*>(stream)->capturing;
  return make(graph, std::exchange(capturing, nullptr));
}
FAKE cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  return make(executable, new Graph(*static_cast<Graph*>(graph)));
}
FAKE cuGraphUpload(void*, void*) { return broken; }
FAKE cuGraphLaunch(void* executable, void* stream) {
  for (const Operation& operation : static_cast<Graph*>(executable)->operations) {
    if (int answer = gpu.add(static_cast<Stream*>(stream), operation)) return answer;
  }
  return 0;
}
FAKE cuGraphDestroy(void* graph) { return destroy<Graph>(graph); }
FAKE cuGraphExecDestroy(void* executable) { return destroy<Graph>(executable); }
FAKE cuEventCreate(void** event, unsigned) { return make(event, new Event); }
FAKE cuEventRecord(void* event, void* stream) {
  static_cast<Event*>(event)->done = false;
  return gpu.add(static_cast<Stream*>(stream),
                 [=] { return static_cast<Event*>(event)->done = true; });
}
FAKE cuEventQuery(void* event) { return static_cast<Event*>(event)->done ? 0 : kNotReady; }
FAKE cuEventDestroy_v2(void* event) { return destroy<Event>(event); }
FAKE cuMemAlloc_v2(Address* at, std::size_t bytes) {
  static std::atomic<int> calls{0};
  if (its_turn("FAKE_CUDA_MEMORY", calls)) return kOutOfMemory;
  if (broken) return broken;
  ++handles;
  *at = reinterpret_cast<Address>(allocate(bytes, 256));
  return 0;
}
FAKE cuMemFree_v2(Address at) {
  std::free(reinterpret_cast<void*>(at));
  return --handles < 0 ? 400 : 0;
}
FAKE cuMemHostAlloc(void** at, std::size_t bytes, unsigned) {
  ++handles;
  return *at = allocate(bytes, 4096), 0;
}
FAKE cuMemFreeHost(void* at) {
  std::free(at);
  return --handles < 0 ? 400 : 0;
}
FAKE cuMemHostRegister_v2(void*, std::size_t, unsigned) {
  ++handles;
  return 0;
}
FAKE cuMemHostUnregister(void*) { return --handles < 0 ? 400 : 0; }
FAKE cuMemHostGetDevicePointer_v2(Address* device, void* host, unsigned) {
  return *device = reinterpret_cast<Address>(host), 0;
}
FAKE cuMemcpyHtoDAsync_v2(Address to, const void* from, std::size_t bytes, void* stream) {
  return gpu.add(static_cast<Stream*>(stream), [=] {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return true;
  });
}
FAKE cuMemcpyDtoHAsync_v2(void* to, Address from, std::size_t bytes, void* stream) {
  static std::atomic<int> calls{0};
  const bool wrong = its_turn("FAKE_CUDA_WRONG", calls);
  return gpu.add(static_cast<Stream*>(stream), [=] {
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    if (wrong) *static_cast<char*>(to) ^= 1;
    return true;
  });
}
#ifndef FAKE_CUDA_WITHOUT_GREEN
FAKE cuDeviceGetDevResource(int, void* resource, int) {
  return static_cast<unsigned*>(resource)[24] = 16, 0;  // SMs
}
FAKE cuDevSmResourceSplitByCount(void* part, unsigned* groups, const void*, void*, unsigned,
                                 unsigned least) {
  return *groups = 1, static_cast<unsigned*>(part)[24] = (least + 7) / 8 * 8, 0;
}
FAKE cuDevResourceGenerateDesc(void** description, void*, unsigned) {
  return *description = nullptr, 0;
}
FAKE cuGreenCtxCreate(void** context, void*, int, unsigned) { return make(context, new char); }
FAKE cuGreenCtxDestroy(void* context) { return destroy<char>(context); }
FAKE cuCtxFromGreenCtx(void** context, void* green) { return *context = green, 0; }
#endif
