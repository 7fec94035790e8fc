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

namespace {

OwnedEvent make_event_with(unsigned flags) {
  Event event = nullptr;
  driver().check(driver().event_create(&event, flags), "making an event");
  return OwnedEvent(event);
}

}  // namespace

OwnedEvent make_event() { return make_event_with(kEventDisableTiming); }

OwnedEvent make_timed_event() { return make_event_with(kEventWithTiming); }

OwnedMemory make_memory(std::size_t bytes) {
  Pointer at = 0;
  driver().check(driver().memory_alloc(&at, bytes), "allocating device memory");
  return OwnedMemory(at);
}

OwnedGraphExec capture_graph(Stream capturing, const std::function<void()>& issue) {
  const Driver& d = driver();
  d.check(d.capture_begin(capturing, kCaptureThreadLocal), "capturing a graph");
  Graph graph = nullptr;
  try {
    issue();
  } catch (...) {
    // Or the stream could not be used any more. The first error is the one that counts.
    if (d.capture_end(capturing, &graph) == kSuccess && graph) d.graph_destroy(graph);
    throw;
  }
  d.check(d.capture_end(capturing, &graph), "capturing a graph");
  const OwnedGraph owned(graph);
  GraphExec executable = nullptr;
  d.check(d.graph_instantiate(&executable, graph, 0), "making a graph");
  OwnedGraphExec made(executable);
  d.check(d.graph_upload(executable, capturing), "uploading a graph");
  return made;
}

}  // namespace paella::gpu::cuda
