#include <memory>

#include "bindings.hpp"
#include "launch_plan.hpp"
#include "paella/engine/live.hpp"
#include "run_spec.hpp"

namespace paella::bindings {
namespace {

using engine::LiveServer;
using Backend = engine::LiveSpec::Backend;

engine::LiveSpec live_spec(const py::dict& d) {
  engine::LiveSpec spec;
  spec.backend = choice<Backend>(
      d, "backend", {{"null", Backend::kNull}, {"sim", Backend::kSim}, {"cuda", Backend::kCuda}});
  spec.system = system_spec(get<py::dict>(d, "system"));
  spec.device = device_spec(get<py::dict>(d, "device"));
  spec.reference = device_spec(get<py::dict>(d, "reference"));
  spec.ordinal = get<int>(d, "ordinal");
  spec.partition_sms = get<int>(d, "partition_sms");
  spec.instances = get<std::int32_t>(d, "instances");
  spec.watchdog_s = get<double>(d, "watchdog_s");
  return spec;
}

engine::LiveModel live_model(const py::dict& d) {
  py::list one;
  one.append(d);
  engine::LiveModel live{model_plans(one).at(0), get<std::int32_t>(d, "instances"), {}};
  if (!d["launch_plan"].is_none()) live.launch_plan = launch_plan(d["launch_plan"].cast<py::dict>());
  return live;
}

std::int32_t add_model(LiveServer& server, const py::dict& d) {
  engine::LiveModel live = live_model(d);
  const bool computes_outputs = get<bool>(d, "computes_outputs");
  const py::gil_scoped_release release;
  return server.add_model(std::move(live), computes_outputs);
}

py::dict counters(LiveServer& server) {
  LiveServer::Counters c;
  {
    const py::gil_scoped_release release;
    c = server.counters();
  }
  py::dict d;
  d["dispatches"] = c.server.dispatches;
  d["extra_kernels"] = c.server.extra_kernels;
  d["host_cpu_us"] = c.server.cpu_us;
  d["loop_gap_max_us"] = static_cast<double>(c.longest_turn_ns) * 1e-3;
  return d;
}

// A thread of its own calls this. An exception of compute(), which says so itself, fails its job and
// none after it: it may be a client's input that cannot be computed with.
void compute_outputs(LiveServer& server, const py::function& compute) {
  engine::Outputs& outputs = *server.outputs();
  const auto next = [&] {
    const py::gil_scoped_release release;
    return outputs.next();
  };
  while (auto work = next()) {
    const auto view = [](const void* at, std::uint64_t bytes) {
      return py::memoryview::from_memory(const_cast<void*>(at), static_cast<py::ssize_t>(bytes));
    };
    try {
      compute(work->request.model, view(work->request.input, work->input_bytes),
              view(work->request.output, work->output_bytes));
      work->computed = true;
    } catch (const py::error_already_set&) {
    }
    outputs.put(*work);
  }
}

}  // namespace

void bind_live(py::module_& m) {
  py::class_<LiveServer>(m, "LiveServer", "Serves clients in other processes (paella.live).")
      .def(py::init([](std::shared_ptr<ipc::Sessions> sessions, const py::dict& spec, int cpu,
                       double idle_ms, bool compute_outputs) {
             engine::LiveSpec what = live_spec(spec);
             const py::gil_scoped_release release;
             return std::make_unique<LiveServer>(
                 std::move(sessions), std::move(what),
                 engine::LiveOptions{cpu, static_cast<TimeNs>(idle_ms * 1e6),
                                     compute_outputs});
           }),
           py::arg("sessions"), py::arg("spec"), py::arg("cpu") = -1, py::arg("idle_ms") = 0.0,
           py::arg("compute_outputs") = false)
      .def("compute_outputs", &compute_outputs, py::arg("compute"),
           "Calls compute(model, input, output) for every job, until the server has ended.")
      .def("run", &LiveServer::run, py::call_guard<py::gil_scoped_release>())
      .def("add_model", &add_model, py::arg("model"))
      .def("remove_model", &LiveServer::remove_model, py::arg("index"),
           py::call_guard<py::gil_scoped_release>())
      .def("counters", &counters);
}

}  // namespace paella::bindings
