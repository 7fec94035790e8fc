#include "paella/gpu/cuda/driver.hpp"

#include <dlfcn.h>

#include <cstdlib>

#include "paella/error.hpp"

namespace paella::gpu::cuda {
namespace {

std::string library_name() {
  const char* name = std::getenv("PAELLA_LIBCUDA");
  return name && *name ? name : "libcuda.so.1";
}

Driver load() {
  const std::string name = library_name();
  // Never closed: the driver keeps threads of its own.
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw Error(std::string("there is no CUDA driver: ") + dlerror());
  Driver d;
#define PAELLA_CUDA_LOAD(member, symbol, parameters)                                       \
  d.member = reinterpret_cast<decltype(d.member)>(dlsym(library, #symbol));                \
  if (!d.member) {                                                                         \
    throw Error(name + " is no CUDA driver, or one older than 11.7: it has no " #symbol);  \
  }
  PAELLA_CUDA_FUNCTIONS(PAELLA_CUDA_LOAD)
#undef PAELLA_CUDA_LOAD
#define PAELLA_CUDA_LOAD(member, symbol, parameters) \
  d.member = reinterpret_cast<decltype(d.member)>(dlsym(library, #symbol));
  PAELLA_CUDA_OPTIONAL(PAELLA_CUDA_LOAD)
#undef PAELLA_CUDA_LOAD
  d.check(d.init(0), "starting the CUDA driver");
  return d;
}

int attribute(Device device, Attribute which) {
  int value = 0;
  driver().check(driver().device_attribute(&value, static_cast<int>(which), device),
                 "asking for a device's attribute");
  return value;
}

DeviceInfo describe(int ordinal) {
  const Driver& d = driver();
  Device device = 0;
  d.check(d.device_get(&device, ordinal), "asking for a device");
  DeviceInfo info;
  char name[256] = {};
  d.check(d.device_name(name, sizeof name - 1, device), "asking for a device's name");
  info.name = name;
  d.check(d.device_memory(&info.memory_bytes, device), "asking for a device's memory");
  d.check(d.driver_version(&info.driver_version), "asking for the driver's version");
  info.compute_capability = std::to_string(attribute(device, Attribute::kComputeMajor)) + "." +
                            std::to_string(attribute(device, Attribute::kComputeMinor));
  info.sms = attribute(device, Attribute::kMultiprocessors);
  info.threads_per_sm = attribute(device, Attribute::kMaxThreadsPerSm);
  info.blocks_per_sm = attribute(device, Attribute::kMaxBlocksPerSm);
  info.regs_per_sm = attribute(device, Attribute::kMaxRegistersPerSm);
  info.smem_per_sm = attribute(device, Attribute::kMaxSharedMemoryPerSm);
  info.reserved_smem_per_block = attribute(device, Attribute::kReservedSharedMemoryPerBlock);
  info.l2_bytes = attribute(device, Attribute::kL2Bytes);
  info.copy_engines = attribute(device, Attribute::kAsyncEngines);
  info.clock_khz = attribute(device, Attribute::kClockKhz);
  return info;
}

}  // namespace

void Driver::check(Result result, const char* doing) const {
  if (result == kSuccess) return;
  const char* name = nullptr;
  const char* text = nullptr;
  if (error_name(result, &name) != kSuccess || !name) name = "an unknown error";
  if (error_string(result, &text) != kSuccess || !text) text = "no description";
  throw Error(std::string(doing) + " failed: " + name + " (" + std::to_string(result) + "), " +
              text);
}

const Driver& driver() {
  static const Driver loaded = load();
  return loaded;
}

std::vector<DeviceInfo> devices() {
  int count = 0;
  driver().check(driver().device_count(&count), "counting the devices");
  std::vector<DeviceInfo> list;
  for (int i = 0; i < count; ++i) list.push_back(describe(i));
  return list;
}

}  // namespace paella::gpu::cuda
