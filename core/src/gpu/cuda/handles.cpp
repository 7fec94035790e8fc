#include "paella/gpu/cuda/handles.hpp"

#include <cstring>
#include <string>

#include "paella/error.hpp"

namespace paella::gpu::cuda {

CurrentContext::CurrentContext(int ordinal) {
  const Driver& d = driver();
  d.check(d.device_get(&device_, ordinal), "asking for a device");
  d.check(d.context_get(&before_), "asking for the current context");
  d.check(d.context_retain(&context_, device_), "making a context");
  const Result set = d.context_set(context_);
  if (set != kSuccess) {
    d.context_release(device_);
    d.check(set, "entering a context");
  }
}

CurrentContext::~CurrentContext() {
  driver().context_set(before_);
  driver().context_release(device_);
}

MappedMemory::MappedMemory(std::size_t bytes) {
  const Driver& d = driver();
  const std::string doing = "allocating " + std::to_string(bytes) + " bytes of page-locked memory";
  d.check(d.host_alloc(&host_, bytes, kHostAllocDeviceMap), doing.c_str());
  std::memset(host_, 0, bytes);
  const Result mapped = d.host_pointer(&device_, host_, 0);
  if (mapped != kSuccess) {
    d.host_free(host_);
    d.check(mapped, "mapping page-locked memory");
  }
}

MappedMemory::~MappedMemory() { driver().host_free(host_); }

OwnedStream make_stream() {
  Stream stream = nullptr;
  driver().check(driver().stream_create(&stream, kStreamNonBlocking), "making a stream");
  return OwnedStream(stream);
}

OwnedEvent make_event() {
  Event event = nullptr;
  driver().check(driver().event_create(&event, kEventDisableTiming), "making an event");
  return OwnedEvent(event);
}

OwnedMemory make_memory(std::size_t bytes) {
  Pointer at = 0;
  driver().check(driver().memory_alloc(&at, bytes), "allocating device memory");
  return OwnedMemory(at);
}

}  // namespace paella::gpu::cuda
