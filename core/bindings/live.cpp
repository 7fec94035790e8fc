#include <memory>
#include <optional>

#include "bindings.hpp"
#include "paella/apps/server.hpp"
#include "results.hpp"
#include "specification.hpp"

namespace paella::bindings {
namespace {

using apps::LiveServer;

std::int32_t add_model(LiveServer& server, std::string_view profile, std::int32_t instances,
                       const std::optional<std::string>& plan, bool computes_outputs) {
  gpu::ModelSpec spec;
  spec.model = model(profile);
  spec.instances = instances;
  const py::gil_scoped_release release;
  if (plan) spec.launch_plan = launch_plan(*plan);
  return server.add_model(std::move(spec), computes_outputs);
}

py::object counters(LiveServer& server) {
  LiveServer::Counters c;
  {
    const py::gil_scoped_release release;
    c = server.counters();
  }
  py::dict fields = server_counters(c.server);
  fields["loop_gap_max_us"] = to_us(c.longest_turn_ns);
  return make("Counters", fields);
}

// A thread of its own calls this. An exception of compute(), which says so itself, fails its job and
// none after it: it may be a client's input that cannot be computed with.
void compute_outputs(LiveServer& server, const py::function& compute) {
  ipc::Outputs& outputs = *server.outputs();
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
  py::class_<LiveServer>(m, "LiveServer", "Serves clients in other processes (paella.serving.server).")
      .def(py::init([](std::shared_ptr<ipc::Sessions> sessions, std::string_view text, int cpu,
                       double idle_ms, bool compute_outputs) {
             const apps::ServerSpec spec = server_spec(text);
             const py::gil_scoped_release release;
             return std::make_unique<LiveServer>(
                 std::move(sessions), spec,
                 apps::ServerOptions{.cpu = cpu,
                                     .idle_ns = to_ns(1e3 * idle_ms),
                                     .compute_outputs = compute_outputs});
           }),
           py::arg("sessions"), py::arg("specification"), py::arg("cpu") = -1,
           py::arg("idle_ms") = 0.0, py::arg("compute_outputs") = false)
      .def("compute_outputs", &compute_outputs, py::arg("compute"),
           "Calls compute(model, input, output) for every job, until the server has ended.")
      .def("run", &LiveServer::run, py::call_guard<py::gil_scoped_release>())
      .def("add_model", &add_model, py::arg("profile"), py::arg("instances"), py::arg("plan"),
           py::arg("computes_outputs"))
      .def("remove_model", &LiveServer::remove_model, py::arg("index"),
           py::call_guard<py::gil_scoped_release>())
      .def("counters", &counters);
}

}  // namespace paella::bindings
