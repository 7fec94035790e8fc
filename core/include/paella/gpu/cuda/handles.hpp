#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "paella/gpu/cuda/driver.hpp"

// Owners of what the driver hands out. They belong to the context that is current when they are
// made, and go before it.
namespace paella::gpu::cuda {

template <class T, Result (*Driver::*Free)(T)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(T value) : value_(value) {}
  Owned(Owned&& other) noexcept : value_(std::exchange(other.value_, T{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Owned() {
    if (value_ != T{}) (driver().*Free)(value_);
  }
  T get() const { return value_; }

 private:
  T value_{};
};

using OwnedModule = Owned<Module, &Driver::module_unload>;
using OwnedStream = Owned<Stream, &Driver::stream_destroy>;
using OwnedEvent = Owned<Event, &Driver::event_destroy>;
using OwnedGraph = Owned<Graph, &Driver::graph_destroy>;
using OwnedGraphExec = Owned<GraphExec, &Driver::graph_exec_destroy>;
using OwnedMemory = Owned<Pointer, &Driver::memory_free>;

// Uses a device's primary context in this thread, and puts the one before back at the end.
class CurrentContext {
 public:
  explicit CurrentContext(int ordinal);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  Context get() const { return context_; }

 private:
  Device device_ = 0;
  Context before_ = nullptr;
  Context context_ = nullptr;
};

// Page-locked host memory that the device sees too, all zero at first.
class MappedMemory {
 public:
  explicit MappedMemory(std::size_t bytes);
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(host_);
  }
  Pointer on_device() const { return device_; }

 private:
  void* host_ = nullptr;
  Pointer device_ = 0;
};

OwnedStream make_stream();  // does not wait for the legacy default stream
OwnedEvent make_event();    // without timing
OwnedEvent make_timed_event();
OwnedMemory make_memory(std::size_t bytes);

// A graph of what `issue` puts into `capturing`, and into streams that wait for its events and for
// whose events it waits; uploaded, so that the first launch is as fast as the others. All kernels
// have to be loaded. The upload may still run when the call returns.
OwnedGraphExec capture_graph(Stream capturing, const std::function<void()>& issue);

}  // namespace paella::gpu::cuda
