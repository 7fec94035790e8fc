// A CUDA driver without a GPU, as far as the package uses one: everything is done when its call
// returns, and kernels do what their names say. Compiled by test_driver.py.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define FAKE extern "C" int

namespace {

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int handles = 0;  // made and not yet destroyed
char thing;

int make(void** handle) {
  ++handles;
  *handle = &thing;
  return 0;
}

int destroy() { return --handles < 0 ? 400 : 0; }

struct Leaks {
  ~Leaks() {
    if (handles != 0) std::fprintf(stderr, "%d handles left\n", handles);
  }
} leaks;

}  // namespace

FAKE cuInit(unsigned) { return std::atoi(setting("FAKE_CUDA_INIT")); }
FAKE cuDriverGetVersion(int* version) { return *version = 13000, 0; }
FAKE cuGetErrorName(int error, const char** text) {
  return *text = error == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_OTHER", 0;
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
FAKE cuDevicePrimaryCtxRetain(void** context, int) { return make(context); }
FAKE cuDevicePrimaryCtxRelease_v2(int) { return destroy(); }
FAKE cuCtxGetCurrent(void** context) { return *context = nullptr, 0; }
FAKE cuCtxSetCurrent(void*) { return 0; }
FAKE cuCtxSynchronize() { return 0; }
FAKE cuModuleLoadData(void** module, const void* image) {
  return std::strstr(static_cast<const char*>(image), ".target sm_75") ? make(module) : 200;
}
FAKE cuModuleUnload(void*) { return destroy(); }
FAKE cuModuleGetFunction(void** function, void*, const char* name) {
  return *function = const_cast<char*>(name), 0;
}
FAKE cuLaunchKernel(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                    unsigned, void*, void** parameters, void**) {
  if (setting("FAKE_CUDA_LAUNCH")[0]) return std::atoi(setting("FAKE_CUDA_LAUNCH"));
  if (!std::strcmp(static_cast<const char*>(function), "flag")) {
    auto* at = *static_cast<std::uint32_t**>(parameters[0]);
    __atomic_store_n(at, *static_cast<std::uint32_t*>(parameters[1]), __ATOMIC_RELEASE);
  }
  return 0;
}
FAKE cuLaunchHostFunc(void*, void (*function)(void*), void* argument) {
  return function(argument), 0;
}
FAKE cuStreamCreate(void** stream, unsigned) { return make(stream); }
FAKE cuStreamDestroy_v2(void*) { return destroy(); }
FAKE cuStreamQuery(void*) { return 0; }
FAKE cuStreamSynchronize(void*) { return 0; }
FAKE cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
#ifndef FAKE_CUDA_OLD
FAKE cuStreamWriteValue32_v2(void*, unsigned long long at, std::uint32_t value, unsigned) {
  if (setting("FAKE_CUDA_NO_WRITE")[0]) return 801;
  __atomic_store_n(reinterpret_cast<std::uint32_t*>(at), value, __ATOMIC_RELEASE);
  return 0;
}
#endif
FAKE cuStreamBeginCapture_v2(void*, int) { return 0; }
FAKE cuStreamEndCapture(void*, void** graph) { return make(graph); }
FAKE cuGraphInstantiateWithFlags(void** executable, void*, unsigned long long) {
  return make(executable);
}
FAKE cuGraphLaunch(void*, void*) { return 0; }
FAKE cuGraphDestroy(void*) { return destroy(); }
FAKE cuGraphExecDestroy(void*) { return destroy(); }
FAKE cuEventCreate(void** event, unsigned) { return make(event); }
FAKE cuEventRecord(void*, void*) { return 0; }
FAKE cuEventQuery(void*) { return 0; }
FAKE cuEventDestroy_v2(void*) { return destroy(); }
FAKE cuMemAlloc_v2(unsigned long long* at, std::size_t bytes) {
  ++handles;
  *at = reinterpret_cast<unsigned long long>(std::malloc(bytes));
  return 0;
}
FAKE cuMemFree_v2(unsigned long long at) {
  std::free(reinterpret_cast<void*>(at));
  return destroy();
}
FAKE cuMemHostAlloc(void** at, std::size_t bytes, unsigned) {
  ++handles;
  *at = std::malloc(bytes);
  return 0;
}
FAKE cuMemFreeHost(void* at) {
  std::free(at);
  return destroy();
}
FAKE cuMemHostGetDevicePointer_v2(unsigned long long* device, void* host, unsigned) {
  return *device = reinterpret_cast<unsigned long long>(host), 0;
}
FAKE cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, std::size_t bytes, void*) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return 0;
}
FAKE cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, std::size_t bytes, void*) {
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return 0;
}
