#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/plan_runner.hpp"
#include "specification.hpp"

// What checks, the profiler and the tuner have of a GPU (paella.gpu). Calls that reach the driver run
// without the interpreter's lock.
namespace paella::bindings {
namespace {

namespace py = pybind11;
namespace cuda = gpu::cuda;
using Gpu = std::shared_ptr<cuda::OpenGpu>;
using Unlocked = py::call_guard<py::gil_scoped_release>;
using Array = py::array_t<unsigned char>;

constexpr double kLimitS = 60;

void look_for_signals() {
  const py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

struct GpuStream {
  explicit GpuStream(const Gpu& on) : gpu(on), owned(on->make_stream()) {}
  cuda::Stream get() const { return owned->get(); }
  Gpu gpu;
  std::shared_ptr<cuda::OwnedStream> owned;
};

struct GpuEvent {
  explicit GpuEvent(const Gpu& on) : gpu(on), owned(on->make([] { return cuda::make_timed_event(); })) {}

  void record(const GpuStream& stream) const {
    const auto here = gpu->enter();
    cuda::driver().check(cuda::driver().event_record(owned->get(), stream.get()),
                         "recording an event");
  }
  bool done() const {
    const auto here = gpu->enter();
    const cuda::Result result = cuda::driver().event_query(owned->get());
    if (result != cuda::kNotReady) cuda::driver().check(result, "asking for an event");
    return result == cuda::kSuccess;
  }
  double elapsed_us(const GpuEvent& start) const {
    const auto here = gpu->enter();
    float ms = 0;
    cuda::driver().check(cuda::driver().event_elapsed(&ms, start.owned->get(), owned->get()),
                         "asking for the time between two events");
    return double{ms} * 1e3;
  }
  Gpu gpu;
  std::shared_ptr<cuda::OwnedEvent> owned;
};

struct GpuGraph {
  void launch(const GpuStream& stream) const {
    const auto here = gpu->enter();
    cuda::PlanRunner::launch_graph(owned, stream.get());
  }
  Gpu gpu;
  cuda::PlanRunner::Graph owned;
};

struct Notes {
  using Message = std::tuple<std::string, std::int32_t, std::int64_t>;

  Notes(const Gpu& on, std::int32_t slots, std::uint32_t messages) : gpu(on) {
    const auto here = on->enter();
    ring = on->keep(std::make_unique<cuda::NoteRing>(slots, messages));
  }
  const cuda::SlotWords& words(std::int32_t slot) const {
    if (slot < 0 || slot >= ring->slots()) {
      throw Error("there is no slot " + std::to_string(slot) + ": there are " +
                  std::to_string(ring->slots()));
    }
    return ring->words(slot);
  }
  // Blocks that the ring had no room for come last. Those words are read first: what a launch owes
  // follows its messages.
  std::vector<Message> drain() {
    std::vector<Message> messages, late;
    const auto add_to = [](std::vector<Message>& list) {
      return [&list](bool finished, std::int32_t slot, std::int64_t blocks) {
        list.emplace_back(finished ? "finished" : "started", slot, blocks);
      };
    };
    for (std::int32_t slot = 0; slot < ring->slots(); ++slot) {
      ring->drain_owed(slot, add_to(late));
    }
    ring->drain(add_to(messages));
    for (const Message& m : late) late_blocks += std::get<2>(m);
    messages.insert(messages.end(), late.begin(), late.end());
    return messages;
  }
  void write_behind(const GpuStream& stream, std::int32_t slot, std::uint32_t value) const {
    words(slot);
    const auto here = gpu->enter();
    const cuda::Pointer at = ring->words_at(slot) + offsetof(cuda::SlotWords, written);
    cuda::driver().check(cuda::driver().stream_write_value(stream.get(), at, value, 0),
                         "asking for a notification");
  }
  Gpu gpu;
  std::shared_ptr<cuda::NoteRing> ring;
  std::int64_t late_blocks = 0;
};

struct LoadedPlan {
  LoadedPlan(const Gpu& on, std::string_view files) : gpu(on) {
    const py::gil_scoped_release unlocked;
    plan::LaunchPlan read = launch_plan(files);
    const auto here = on->enter();
    model = on->keep(std::make_unique<cuda::LoadedModel>(std::move(read)));
  }
  Gpu gpu;
  std::shared_ptr<cuda::LoadedModel> model;
};

// Until it is closed.
class Runner {
 public:
  Runner(const LoadedPlan& plan, const Notes& notes, std::int32_t slot)
      : runner_(std::make_unique<cuda::PlanRunner>(plan.gpu, plan.model, notes.ring, slot)) {}

  void close() {
    if (!runner_) return;
    const Gpu gpu = runner_->gpu();
    const py::gil_scoped_release unlocked;
    if (!gpu->lost()) gpu->wait_all(kLimitS);
    runner_.reset();
  }

  void launch(const GpuStream& stream, cuda::Level level, std::int32_t first,
              std::optional<std::int32_t> last, bool copies) {
    cuda::PlanRunner& runner = open();
    runner.launch(stream.get(), level, first, last.value_or(runner.kernels()), copies);
  }
  void launch_one(const GpuStream& stream, std::int32_t index, std::optional<cuda::Grid> grid,
                  cuda::Level level) {
    open().launch_one(stream.get(), level, index, grid);
  }
  GpuGraph graph(cuda::Level level, std::int32_t first, std::optional<std::int32_t> last,
                 bool copies) {
    cuda::PlanRunner& runner = open();
    return {runner.gpu(), runner.graph(level, first, last.value_or(runner.kernels()), copies)};
  }
  GpuGraph graph_of(const std::vector<std::int32_t>& indices, cuda::Level level) {
    return {open().gpu(), open().graph_of(level, indices)};
  }
  GpuGraph graph_of_chains(std::int32_t index, std::optional<cuda::Grid> grid, std::int32_t chains,
                           std::int32_t length, cuda::Level level) {
    return {open().gpu(), open().graph_of_chains(level, index, grid, chains, length)};
  }
  void set_inputs(const std::vector<py::array>& arrays) {
    std::vector<std::span<const unsigned char>> inputs;
    for (const py::array& array : arrays) {
      if (!(array.flags() & py::array::c_style)) throw Error("an input is not contiguous");
      inputs.emplace_back(static_cast<const unsigned char*>(array.data()),
                          static_cast<std::size_t>(array.nbytes()));
    }
    const py::gil_scoped_release unlocked;
    open().set_inputs(inputs);
  }
  std::vector<Array> outputs() {
    const std::vector<cuda::Instance::Bytes>* found = nullptr;
    {
      const py::gil_scoped_release unlocked;
      found = &open().outputs();
    }
    std::vector<Array> arrays;
    for (const auto& bytes : *found) {
      arrays.emplace_back(static_cast<py::ssize_t>(bytes.size()), bytes.data());
    }
    return arrays;
  }
  void poison() { open().poison(); }
  int blocks_per_sm(std::int32_t index, const std::string& kind) {
    return open().blocks_per_sm(index, kind_of(kind));
  }
  std::tuple<int, int, int> resources(std::int32_t index, const std::string& kind) {
    const auto r = open().resources(index, kind_of(kind));
    return {r.registers, r.shared_bytes, r.local_bytes};
  }

 private:
  static cuda::Kind kind_of(const std::string& name) {
    if (name == "plain") return cuda::Kind::kPlain;
    if (name == "instrumented") return cuda::Kind::kInstrumented;
    if (name == "chained") return cuda::Kind::kChained;
    throw Error("there are no " + name + " kernels");
  }
  cuda::PlanRunner& open() const {
    if (!runner_) throw Error("the runner is closed");
    return *runner_;
  }

  std::unique_ptr<cuda::PlanRunner> runner_;
};

void bind_gpu(py::module_& m) {
  py::class_<cuda::OpenGpu, Gpu>(m, "OpenGpu", "A GPU in use by this process.")
      .def(py::init([](int ordinal) {
             const py::gil_scoped_release unlocked;
             return std::make_shared<cuda::OpenGpu>(ordinal, &look_for_signals);
           }),
           py::arg("ordinal") = 0)
      .def("synchronize", &cuda::OpenGpu::wait_all, py::arg("limit_s") = kLimitS, Unlocked())
      .def_property_readonly("lost", &cuda::OpenGpu::lost);
  py::class_<GpuEvent> event(m, "GpuEvent", "A time on the GPU.");
  py::class_<GpuStream>(m, "GpuStream", "A stream that does not wait for the default one.")
      .def(py::init<const Gpu&>(), py::arg("gpu"), Unlocked())
      .def_property_readonly(
          "handle", [](const GpuStream& s) { return reinterpret_cast<std::uintptr_t>(s.get()); })
      .def(
          "synchronize",
          [](const GpuStream& s, double limit_s) { s.gpu->wait(s.get(), limit_s); },
          py::arg("limit_s") = kLimitS, Unlocked())
      .def(
          "wait_event",
          [](const GpuStream& s, const GpuEvent& e) {
            const auto here = s.gpu->enter();
            cuda::driver().check(
                cuda::driver().stream_wait_event(s.get(), e.owned->get(), 0),
                "waiting for an event");
          },
          py::arg("event"), Unlocked());
  event.def(py::init<const Gpu&>(), py::arg("gpu"), Unlocked())
      .def("record", &GpuEvent::record, py::arg("stream"), Unlocked())
      .def_property_readonly("done", py::cpp_function(&GpuEvent::done, Unlocked()))
      .def("elapsed_us", &GpuEvent::elapsed_us, py::arg("start"), Unlocked());
  py::class_<GpuGraph>(m, "GpuGraph", "Kernels of a runner as a CUDA graph.")
      .def("launch", &GpuGraph::launch, py::arg("stream"), Unlocked());
}

void bind_notes(py::module_& m) {
  py::class_<Notes>(m, "Notes", "The host's side of the notifications of instrumented kernels.")
      .def(py::init<const Gpu&, std::int32_t, std::uint32_t>(), py::arg("gpu"),
           py::arg("slots") = 1, py::arg("ring_messages") = 4096, Unlocked())
      .def("finished",
           [](const Notes& n, std::int32_t s) { return cuda::NoteRing::load(&n.words(s).finished); },
           py::arg("slot"))
      .def("placed",
           [](const Notes& n, std::int32_t s) { return cuda::NoteRing::load(&n.words(s).placed); },
           py::arg("slot"))
      .def("position",
           [](const Notes& n, std::int32_t s) { return cuda::NoteRing::load(&n.words(s).position); },
           py::arg("slot"))
      .def("written",
           [](const Notes& n, std::int32_t s) { return cuda::NoteRing::load(&n.words(s).written); },
           py::arg("slot"))
      .def("write_behind", &Notes::write_behind, py::arg("stream"), py::arg("slot"),
           py::arg("value"), Unlocked())
      .def("drain", &Notes::drain)
      .def("addresses",
           [](const Notes& n, std::int32_t s) {
             n.words(s);
             return std::tuple(n.ring->slot_at(s), n.ring->words_at(s));
           },
           py::arg("slot"))
      .def_readonly("late_blocks", &Notes::late_blocks);
}

}  // namespace

void bind_plan_runner(py::module_& m) {
  bind_gpu(m);
  bind_notes(m);
  py::class_<LoadedPlan>(m, "LoadedPlan", "A plan's kernels and weights on the GPU.")
      .def(py::init<const Gpu&, std::string_view>(), py::arg("gpu"), py::arg("files"));
  py::class_<Runner>(m, "PlanRunner", "One job's memories, and the plan's kernels bound to them.")
      .def(py::init<const LoadedPlan&, const Notes&, std::int32_t>(), py::arg("plan"),
           py::arg("notes"), py::arg("slot") = 0, Unlocked())
      .def("close", &Runner::close)
      .def("launch", &Runner::launch, py::arg("stream"), py::arg("level") = py::none(),
           py::arg("first") = 0, py::arg("last") = py::none(), py::arg("copies") = false,
           Unlocked())
      .def("launch_one", &Runner::launch_one, py::arg("stream"), py::arg("index"),
           py::arg("grid") = py::none(), py::arg("level") = py::none(), Unlocked())
      .def("graph", &Runner::graph, py::arg("level") = py::none(), py::arg("first") = 0,
           py::arg("last") = py::none(), py::arg("copies") = false, Unlocked())
      .def("graph_of", &Runner::graph_of, py::arg("indices"), py::arg("level") = py::none(),
           Unlocked())
      .def("graph_of_chains", &Runner::graph_of_chains, py::arg("index"),
           py::arg("grid") = py::none(), py::arg("chains") = 1, py::arg("length") = 1,
           py::arg("level") = py::none(), Unlocked())
      .def("set_input_bytes", &Runner::set_inputs, py::arg("inputs"))
      .def("output_bytes", &Runner::outputs)
      .def("poison", &Runner::poison, Unlocked())
      .def("blocks_per_sm", &Runner::blocks_per_sm, py::arg("index"), py::arg("kind") = "plain",
           Unlocked())
      .def("resources", &Runner::resources, py::arg("index"), py::arg("kind") = "plain",
           Unlocked());
}

}  // namespace paella::bindings
