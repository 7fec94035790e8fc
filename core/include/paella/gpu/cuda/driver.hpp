#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// NVIDIA's driver API, found at run time: the package builds where there is no CUDA and imports
// where there is no driver. Types and values are those of the CUDA Driver API manual, declared
// here because cuda.h may be missing.
namespace paella::gpu::cuda {

using Result = int;
using Device = int;
using Pointer = unsigned long long;
using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;
using Event = struct EventTag*;
using Graph = struct GraphTag*;
using GraphExec = struct GraphExecTag*;
using GreenContext = struct GreenContextTag*;
using ResourceDesc = struct ResourceDescTag*;
using HostFunction = void (*)(void*);

constexpr Result kSuccess = 0;
constexpr Result kNotReady = 600;

constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventWithTiming = 0;
constexpr unsigned kEventDisableTiming = 2;
constexpr unsigned kHostAllocDeviceMap = 2;
constexpr int kCaptureThreadLocal = 1;
// CUfunction_attribute
constexpr int kSharedBytes = 1;  // static, per block
constexpr int kLocalBytes = 3;   // per thread
constexpr int kRegisters = 4;    // per thread
constexpr int kMaxDynamicSharedMemory = 8;
constexpr unsigned kGreenContextDefaultStream = 1;
constexpr int kResourceSms = 1;  // CUdevResourceType

// CUdevResource: SMs of a device.
struct DeviceResource {
  int type = 0;
  unsigned char reserved[92] = {};
  unsigned sms = 0, least_sms = 0, sm_alignment = 0;
  unsigned char more[36] = {};
};
static_assert(sizeof(DeviceResource) == 144);

// CUdevice_attribute
enum class Attribute : int {
  kClockKhz = 13,
  kMultiprocessors = 16,
  kL2Bytes = 38,
  kMaxThreadsPerSm = 39,
  kAsyncEngines = 40,
  kComputeMajor = 75,
  kComputeMinor = 76,
  kMaxSharedMemoryPerSm = 81,
  kMaxRegistersPerSm = 82,
  kMaxBlocksPerSm = 106,
  kReservedSharedMemoryPerBlock = 111,
};

// The functions used: member of the table, name in the library, parameters.
#define PAELLA_CUDA_FUNCTIONS(X)                                                                   \
  X(init, cuInit, (unsigned flags))                                                                \
  X(driver_version, cuDriverGetVersion, (int* version))                                            \
  X(error_name, cuGetErrorName, (Result error, const char** text))                                 \
  X(error_string, cuGetErrorString, (Result error, const char** text))                             \
  X(device_count, cuDeviceGetCount, (int* count))                                                  \
  X(device_get, cuDeviceGet, (Device * device, int ordinal))                                       \
  X(device_name, cuDeviceGetName, (char* name, int length, Device device))                         \
  X(device_attribute, cuDeviceGetAttribute, (int* value, int attribute, Device device))            \
  X(device_memory, cuDeviceTotalMem_v2, (std::size_t * bytes, Device device))                      \
  X(context_retain, cuDevicePrimaryCtxRetain, (Context * context, Device device))                  \
  X(context_release, cuDevicePrimaryCtxRelease_v2, (Device device))                                \
  X(context_get, cuCtxGetCurrent, (Context * context))                                             \
  X(context_set, cuCtxSetCurrent, (Context context))                                               \
  X(context_synchronize, cuCtxSynchronize, ())                                                     \
  X(module_load, cuModuleLoadData, (Module * module, const void* image))                           \
  X(module_unload, cuModuleUnload, (Module module))                                                \
  X(module_function, cuModuleGetFunction, (Function * function, Module module, const char* name))  \
  X(function_attribute, cuFuncSetAttribute, (Function function, int attribute, int value))         \
  X(function_get, cuFuncGetAttribute, (int* value, int attribute, Function function))              \
  X(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                        \
    (int* blocks, Function function, int block_threads, std::size_t dynamic_smem))                 \
  X(launch, cuLaunchKernel,                                                                        \
    (Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,       \
     unsigned block_y, unsigned block_z, unsigned smem_bytes, Stream stream, void** parameters,    \
     void** extra))                                                                                \
  X(launch_host, cuLaunchHostFunc, (Stream stream, HostFunction function, void* argument))         \
  X(stream_create, cuStreamCreate, (Stream * stream, unsigned flags))                              \
  X(stream_destroy, cuStreamDestroy_v2, (Stream stream))                                           \
  X(stream_query, cuStreamQuery, (Stream stream))                                                  \
  X(stream_synchronize, cuStreamSynchronize, (Stream stream))                                      \
  X(stream_wait_event, cuStreamWaitEvent, (Stream stream, Event event, unsigned flags))            \
  X(stream_write_value, cuStreamWriteValue32_v2,                                                   \
    (Stream stream, Pointer at, std::uint32_t value, unsigned flags))                              \
  X(capture_begin, cuStreamBeginCapture_v2, (Stream stream, int mode))                             \
  X(capture_end, cuStreamEndCapture, (Stream stream, Graph * graph))                               \
  X(graph_instantiate, cuGraphInstantiateWithFlags,                                                \
    (GraphExec * executable, Graph graph, unsigned long long flags))                               \
  X(graph_upload, cuGraphUpload, (GraphExec executable, Stream stream))                            \
  X(graph_launch, cuGraphLaunch, (GraphExec executable, Stream stream))                            \
  X(graph_destroy, cuGraphDestroy, (Graph graph))                                                  \
  X(graph_exec_destroy, cuGraphExecDestroy, (GraphExec executable))                                \
  X(event_create, cuEventCreate, (Event * event, unsigned flags))                                  \
  X(event_record, cuEventRecord, (Event event, Stream stream))                                     \
  X(event_query, cuEventQuery, (Event event))                                                      \
  X(event_elapsed, cuEventElapsedTime, (float* ms, Event start, Event end))                        \
  X(event_destroy, cuEventDestroy_v2, (Event event))                                               \
  X(memory_alloc, cuMemAlloc_v2, (Pointer * at, std::size_t bytes))                                \
  X(memory_free, cuMemFree_v2, (Pointer at))                                                       \
  X(memory_set, cuMemsetD8Async,                                                                   \
    (Pointer at, unsigned char value, std::size_t bytes, Stream stream))                           \
  X(host_alloc, cuMemHostAlloc, (void** at, std::size_t bytes, unsigned flags))                    \
  X(host_free, cuMemFreeHost, (void* at))                                                          \
  X(host_register, cuMemHostRegister_v2, (void* at, std::size_t bytes, unsigned flags))            \
  X(host_unregister, cuMemHostUnregister, (void* at))                                              \
  X(host_pointer, cuMemHostGetDevicePointer_v2, (Pointer * device, void* host, unsigned flags))    \
  X(copy_in, cuMemcpyHtoDAsync_v2,                                                                 \
    (Pointer to, const void* from, std::size_t bytes, Stream stream))                              \
  X(copy_out, cuMemcpyDtoHAsync_v2, (void* to, Pointer from, std::size_t bytes, Stream stream))

// Those that an older driver may lack: null then.
#define PAELLA_CUDA_OPTIONAL(X)                                                                    \
  X(device_resource, cuDeviceGetDevResource,                                                       \
    (Device device, DeviceResource * resource, int type))                                          \
  X(split_sms, cuDevSmResourceSplitByCount,                                                        \
    (DeviceResource * groups, unsigned* count, const DeviceResource* whole,                        \
     DeviceResource* rest, unsigned flags, unsigned least_sms))                                    \
  X(describe_resource, cuDevResourceGenerateDesc,                                                  \
    (ResourceDesc * description, DeviceResource * resources, unsigned count))                      \
  X(green_create, cuGreenCtxCreate,                                                                \
    (GreenContext * context, ResourceDesc description, Device device, unsigned flags))             \
  X(green_destroy, cuGreenCtxDestroy, (GreenContext context))                                      \
  X(green_context, cuCtxFromGreenCtx, (Context * context, GreenContext green))

struct Driver {
#define PAELLA_CUDA_MEMBER(member, symbol, parameters) Result(*member) parameters = nullptr;
  PAELLA_CUDA_FUNCTIONS(PAELLA_CUDA_MEMBER)
  PAELLA_CUDA_OPTIONAL(PAELLA_CUDA_MEMBER)
#undef PAELLA_CUDA_MEMBER

  // Error(what was done, what the driver answered) unless the result is success.
  void check(Result result, const char* doing) const;
};

// The driver of this process, loaded and initialised at the first call: libcuda.so.1, or the
// library that PAELLA_LIBCUDA names. Error where there is none, it is none, or it finds no device.
const Driver& driver();

struct DeviceInfo {
  std::string name;
  std::string compute_capability;  // "9.0"
  int driver_version = 0;          // 13000 is CUDA 13.0
  std::size_t memory_bytes = 0;
  int sms = 0;
  int threads_per_sm = 0;
  int blocks_per_sm = 0;
  int regs_per_sm = 0;
  int smem_per_sm = 0;
  int reserved_smem_per_block = 0;
  int l2_bytes = 0;
  int copy_engines = 0;
  int clock_khz = 0;  // the SMs' highest
};

// All devices that the driver shows.
std::vector<DeviceInfo> devices();

}  // namespace paella::gpu::cuda
