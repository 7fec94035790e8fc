#include <memory>

#include "bindings.hpp"
#include "paella/gpu/sim/sim_device.hpp"
#include "results.hpp"
#include "specification.hpp"

namespace paella::bindings {
namespace {

using gpu::sim::SimDevice;

// The simulated GPU by itself, with one host thread for each process: for tests of its rules and
// for microbenchmarks that no system issues.
class SimGpu {
 public:
  SimGpu(std::string_view device, std::string_view reference, std::string_view of_models, bool mps)
      : device_(device_spec(device), device_spec(reference),
                mps ? gpu::sim::Sharing::kMps : gpu::sim::Sharing::kTimeSliced, &timeline_) {
    device_.add_models(models(of_models));
  }

  int add_process(int queues) {
    const int process = device_.add_process(queues);
    ports_.push_back(&device_.add_port(process, 1));
    return process;
  }
  int add_stream(int process, int priority) {
    processes_.push_back(process);
    return device_.add_stream(process, priority);
  }
  void submit(int stream, int model, int first, int last, bool copy_in, bool copy_out, bool graph,
              int tag) {
    gpu::WorkUnit unit;
    unit.id = unit.job = tag;
    unit.model = model;
    unit.first_kernel = first;
    unit.last_kernel = last;
    unit.copy_in = copy_in;
    unit.copy_out = copy_out;
    unit.as_graph = graph;
    unit.notify = gpu::Notify::kStream;
    ports_[processes_.at(stream)]->submit(stream, unit);
  }
  // Lets the next thing happen and returns its time in ns, or None when nothing is left.
  py::object step() {
    const TimeNs next = device_.next_ns();
    if (next == kNever) return py::none();
    device_.step(next);
    return py::int_(next);
  }
  TimeNs run() {
    TimeNs last = 0;
    for (TimeNs next; (next = device_.next_ns()) != kNever; last = next) device_.step(next);
    return last;
  }
  py::list usage() const {
    py::list list;
    for (const auto& u : device_.usage()) {
      list.append(py::make_tuple(u.sms, u.warps, u.regs, u.smem, u.blocks));
    }
    return list;
  }
  py::dict timeline() const { return timeline_columns(timeline_); }

 private:
  record::Timeline timeline_;
  SimDevice device_;
  std::vector<SimDevice::SimPort*> ports_;
  std::vector<int> processes_;  // of each stream
};

}  // namespace

void bind_sim_gpu(py::module_& m) {
  py::class_<SimGpu>(m, "SimGpu", "The simulated GPU by itself; its arguments are JSON text.")
      .def(py::init<std::string_view, std::string_view, std::string_view, bool>(), py::arg("device"),
           py::arg("reference"), py::arg("models"), py::arg("mps") = true)
      .def("add_process", &SimGpu::add_process, py::arg("queues"))
      .def("add_stream", &SimGpu::add_stream, py::arg("process"), py::arg("priority") = 0)
      .def("submit", &SimGpu::submit, py::arg("stream"), py::arg("model"), py::arg("first"),
           py::arg("last"), py::arg("copy_in") = false, py::arg("copy_out") = false,
           py::arg("graph") = false, py::arg("tag") = 0,
           "Issue kernels [first, last) of a model; the process's host clock moves on.")
      .def("step", &SimGpu::step, "Time in ns of what has just happened, None at the end.")
      .def("run", &SimGpu::run, "Run until nothing is left; returns the last time in ns.")
      .def("usage", &SimGpu::usage,
           "(SMs, warps, register units, shared-memory units, blocks) in use on each of them.")
      .def("timeline", &SimGpu::timeline);
}

}  // namespace paella::bindings
