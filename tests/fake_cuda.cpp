// A CUDA driver without a GPU, as far as the package uses one: the calls here, what is behind them in
// fake_gpu.hpp. Streams run in a thread of their own, one operation of each in turn; kernels do what
// their names and modules say. Compiled by tests.
//
// A module is PTX with `.target sm_75`, whose kernel `flag` writes a word and whose others do
// nothing; or a text of lines `kernel SYMBOL ARGUMENTS KIND`, KIND plain, instrumented or chained.
// Such a kernel mixes the first words of all arguments but the last into the first word of the last,
// and tells of itself as notify.cuh and compiler/chain.py say. Fields may follow: op=relu n=N (the
// third argument becomes max(first * second, 0), N floats; op=wrong is off by a thousandth,
// op=forgets does not write one of them), us=, slope= and free= (how long it takes), regs=, smem=,
// blocks= (what it takes of an SM, and how many fit).
//
// As with a real driver, calls need a context that is current in the calling thread, and some are
// refused in a thread that captures.
//
// Faults, by environment: FAKE_CUDA_INIT, FAKE_CUDA_LAUNCH, FAKE_CUDA_IMAGE (what these calls
// answer); FAKE_CUDA_MEMORY, FAKE_CUDA_FAULT, FAKE_CUDA_HANG, FAKE_CUDA_WRONG (the n-th allocation
// fails, kernel fails or never ends, copy to the host is wrong); FAKE_CUDA_NO_WRITE,
// FAKE_CUDA_DEVICES (how many). With FAKE_CUDA_PACE_NS the thread rests for so long between two
// operations; with FAKE_CUDA_LAZY there is none, and work is done when the host asks for its end.
// FAKE_CUDA_NOISE_US spreads the times of events. FAKE_CUDA_LOG keeps what fake_cuda_log() returns.
#include "fake_gpu.hpp"

#define FAKE extern "C" __attribute__((visibility("default"))) int

namespace {

thread_local void* current = nullptr;  // context
thread_local int captures = 0;         // that this thread is in

#define IN_CONTEXT \
  if (!current) return 201;
#define NOT_IN_CAPTURE \
  IN_CONTEXT if (captures) return 900;

template <class T>
int make(void** handle, T* thing) {
  if (broken) return delete thing, broken.load();
  ++handles;
  *handle = thing;
  return 0;
}

template <class T>
int destroy(void* handle) {
  IN_CONTEXT
  delete static_cast<T*>(handle);
  return --handles < 0 ? 400 : 0;
}

}  // namespace

FAKE fake_cuda_handles() { return handles; }
extern "C" __attribute__((visibility("default"))) const char* fake_cuda_log() {
  return activity.text();
}
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
FAKE cuDeviceGetCount(int* count) {
  return *count = setting("FAKE_CUDA_DEVICES").empty() ? 2 : number("FAKE_CUDA_DEVICES"), 0;
}
FAKE cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal < 2 ? 0 : 101; }
FAKE cuDeviceGetName(char* name, int length, int device) {
  return std::snprintf(name, length, "Fake %d", device), 0;
}
FAKE cuDeviceGetAttribute(int* value, int attribute, int) {
  return *value = device_attribute(attribute), 0;
}
FAKE cuDeviceTotalMem_v2(std::size_t* bytes, int) { return *bytes = std::size_t{80} << 30, 0; }
FAKE cuDevicePrimaryCtxRetain(void** context, int) { return make(context, new char); }
FAKE cuDevicePrimaryCtxRelease_v2(int) { return --handles < 0 ? 400 : 0; }
FAKE cuCtxGetCurrent(void** context) { return *context = current, 0; }
FAKE cuCtxSetCurrent(void* context) { return current = context, 0; }
FAKE cuCtxSynchronize() {
  NOT_IN_CAPTURE
  return gpu.wait([] { return gpu.all_idle(); });
}
FAKE cuModuleLoadData(void** module, const void* image) {
  NOT_IN_CAPTURE
  if (int answer = number("FAKE_CUDA_IMAGE")) return answer;
  auto* made = new Module{static_cast<const char*>(image), {}};
  for (std::size_t at = 0; at < made->text.size();) {
    const std::size_t end = std::min(made->text.find('\n', at), made->text.size());
    if (auto function = read_function(made->text.substr(at, end - at))) {
      made->functions.push_back(std::move(function));
    }
    at = end + 1;
  }
  if (made->functions.empty() && made->text.find(".target sm_75") == std::string::npos) {
    return delete made, 200;
  }
  return make(module, made);
}
FAKE cuModuleUnload(void* module) {
  NOT_IN_CAPTURE
  return destroy<Module>(module);
}
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
FAKE cuFuncSetAttribute(void* handle, int attribute, int value) {
  auto& function = *static_cast<Function*>(handle);
  if (attribute == 8) function.dynamic_smem = value;
  activity.add("smem " + function.symbol + " " + std::to_string(value));
  return 0;
}
FAKE cuFuncGetAttribute(int* value, int attribute, void* handle) {
  const auto& function = *static_cast<Function*>(handle);
  return *value = attribute == 1 ? function.smem : attribute == 4 ? function.regs : 0, 0;
}
FAKE cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int, std::size_t) {
  return *blocks = static_cast<Function*>(handle)->blocks, 0;
}
FAKE cuLaunchKernel(void* handle, unsigned x, unsigned y, unsigned z, unsigned, unsigned, unsigned,
                    unsigned smem, void* stream, void** parameters, void**) {
  IN_CONTEXT
  if (int answer = number("FAKE_CUDA_LAUNCH")) return answer;
  const auto& function = *static_cast<Function*>(handle);
  if (smem > 48 * 1024 && static_cast<int>(smem) > function.dynamic_smem) return 1;
  if (function.listed) {
    const unsigned grid[] = {x, y, z};
    return launch_listed(static_cast<Stream*>(stream), function, grid, parameters);
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
FAKE cuStreamCreate(void** stream, unsigned) {
  IN_CONTEXT
  return make(stream, new Stream);
}
FAKE cuStreamDestroy_v2(void* stream) {
  IN_CONTEXT
  gpu.wait([&] { return gpu.idle(static_cast<Stream*>(stream)); });
  gpu.forget(static_cast<Stream*>(stream));
  return destroy<Stream>(stream);
}
FAKE cuStreamQuery(void* stream) {
  IN_CONTEXT
  if (static_cast<Stream*>(stream)->capturing) return 900;
  if (broken) return broken;
  return gpu.idle(static_cast<Stream*>(stream)) ? 0 : kNotReady;
}
FAKE cuStreamSynchronize(void* stream) {
  NOT_IN_CAPTURE
  return gpu.wait([&] { return gpu.idle(static_cast<Stream*>(stream)); });
}
FAKE cuStreamWaitEvent(void* handle, void* event_handle, unsigned) {
  IN_CONTEXT
  auto* stream = static_cast<Stream*>(handle);
  auto* event = static_cast<Event*>(event_handle);
  if (event->graph) {
    const std::lock_guard lock(gpu.mutex());
    if (stream->capturing && stream->capturing != event->graph) return 907;
    stream->capturing = event->graph;
    double& now = event->graph->lanes[stream];
    now = std::max(now, event->at);
    event->graph->open.insert(stream);
    if (stream != event->from && stream == event->graph->origin) {
      event->graph->open.erase(event->from);
    }
    return 0;
  }
  return gpu.add(stream, [=] {
    if (!event->done) return false;
    stream->now = std::max(stream->now, event->at);
    return true;
  });
}
#ifndef FAKE_CUDA_OLD
FAKE cuStreamWriteValue32_v2(void* stream, Address at, std::uint32_t value, unsigned) {
  if (!setting("FAKE_CUDA_NO_WRITE").empty()) return 801;
  return gpu.add(static_cast<Stream*>(stream), [=] { return store(at, value), true; });
}
#endif
FAKE cuStreamBeginCapture_v2(void* handle, int) {
  IN_CONTEXT
  auto* stream = static_cast<Stream*>(handle);
  stream->capturing = new Graph;
  stream->capturing->origin = stream;
  stream->capturing->lanes[stream] = 0;
  ++captures;
  return broken;
}
FAKE cuStreamEndCapture(void* handle, void** made) {
  Graph* graph = static_cast<Stream*>(handle)->capturing;
  if (!graph || graph->origin != handle) return 908;
  --captures;
  for (const auto& [stream, us] : graph->lanes) stream->capturing = nullptr;
  graph->us = graph->lanes[graph->origin];
  graph->open.erase(graph->origin);
  if (!graph->open.empty()) return delete graph, 904;
  return make(made, graph);
}
FAKE cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  return make(executable, new Graph(*static_cast<Graph*>(graph)));
}
FAKE cuGraphUpload(void*, void*) { return broken; }
FAKE cuGraphLaunch(void* executable, void* stream) {
  IN_CONTEXT
  return gpu.add(static_cast<Stream*>(stream), *static_cast<Graph*>(executable));
}
FAKE cuGraphDestroy(void* graph) { return destroy<Graph>(graph); }
FAKE cuGraphExecDestroy(void* executable) { return destroy<Graph>(executable); }
FAKE cuEventCreate(void** event, unsigned flags) {
  IN_CONTEXT
  auto* made = new Event;
  made->timed = flags == 0;
  return make(event, made);
}
FAKE cuEventRecord(void* event_handle, void* handle) {
  IN_CONTEXT
  auto* event = static_cast<Event*>(event_handle);
  auto* stream = static_cast<Stream*>(handle);
  event->graph = stream->capturing;
  event->from = stream;
  if (event->graph) return event->at = event->graph->lanes[stream], 0;
  event->done = false;
  return gpu.add(stream, [=] {
    event->at = stream->now;
    return event->done = true;
  });
}
FAKE cuEventQuery(void* event) {
  IN_CONTEXT
  return static_cast<Event*>(event)->done ? 0 : kNotReady;
}
FAKE cuEventElapsedTime(float* ms, void* first, void* second) {
  IN_CONTEXT
  const auto& start = *static_cast<Event*>(first);
  const auto& end = *static_cast<Event*>(second);
  if (!start.timed || !end.timed) return 400;
  if (!start.done || !end.done) return kNotReady;
  return *ms = static_cast<float>((end.at - start.at) / 1e3), 0;
}
FAKE cuEventDestroy_v2(void* event) { return destroy<Event>(event); }
FAKE cuMemAlloc_v2(Address* at, std::size_t bytes) {
  NOT_IN_CAPTURE
  static std::atomic<int> calls{0};
  if (its_turn("FAKE_CUDA_MEMORY", calls)) return kOutOfMemory;
  if (broken) return broken;
  ++handles;
  *at = reinterpret_cast<Address>(allocate(bytes, 256));
  return 0;
}
FAKE cuMemFree_v2(Address at) {
  NOT_IN_CAPTURE
  std::free(reinterpret_cast<void*>(at));
  return --handles < 0 ? 400 : 0;
}
FAKE cuMemsetD8Async(Address at, unsigned char value, std::size_t bytes, void* stream) {
  IN_CONTEXT
  return gpu.add(static_cast<Stream*>(stream), [=] {
    std::memset(reinterpret_cast<void*>(at), value, bytes);
    return true;
  });
}
FAKE cuMemHostAlloc(void** at, std::size_t bytes, unsigned) {
  NOT_IN_CAPTURE
  ++handles;
  return *at = allocate(bytes, 4096), 0;
}
FAKE cuMemFreeHost(void* at) {
  NOT_IN_CAPTURE
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
  IN_CONTEXT
  return gpu.add(static_cast<Stream*>(stream), [=] {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return true;
  }, kCopyUs);
}
FAKE cuMemcpyDtoHAsync_v2(void* to, Address from, std::size_t bytes, void* stream) {
  IN_CONTEXT
  static std::atomic<int> calls{0};
  const bool wrong = its_turn("FAKE_CUDA_WRONG", calls);
  return gpu.add(static_cast<Stream*>(stream), [=] {
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    if (wrong) *static_cast<char*>(to) ^= 1;
    return true;
  }, kCopyUs);
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
FAKE cuGreenCtxDestroy(void* context) {
  delete static_cast<char*>(context);
  return --handles < 0 ? 400 : 0;
}
FAKE cuCtxFromGreenCtx(void** context, void* green) { return *context = green, 0; }
#endif
