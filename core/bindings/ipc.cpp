#include <memory>
#include <string>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "paella/ipc/echo.hpp"
#include "paella/ipc/sessions.hpp"

namespace paella::bindings {
namespace {

namespace py = pybind11;
using ipc::Sessions;

std::shared_ptr<Sessions> make_sessions(std::uint32_t capacity, std::int32_t sessions,
                                        std::int32_t memories, std::uint64_t session_bytes,
                                        std::uint64_t total_bytes) {
  return std::make_shared<Sessions>(ipc::Limits{.capacity = capacity,
                                                .sessions = sessions,
                                                .memories = memories,
                                                .session_bytes = session_bytes,
                                                .total_bytes = total_bytes});
}

// Descriptors become the caller's.
py::dict attach(Sessions& sessions, std::uint32_t lead_ns) {
  ipc::Attached attached = sessions.attach(lead_ns);
  py::dict out;
  out["session"] = attached.session;
  out["welcome"] = py::bytes(reinterpret_cast<const char*>(&attached.welcome),
                             sizeof attached.welcome);
  out["descriptors"] = py::make_tuple(attached.requests.release(), attached.answers.release(),
                                      attached.wake.release());
  return out;
}

py::tuple add_memory(Sessions& sessions, std::int32_t session, std::uint64_t bytes) {
  auto [id, descriptor] = sessions.add_memory(session, bytes);
  return py::make_tuple(id, descriptor.release());
}

py::list notices(Sessions& sessions) {
  py::list out;
  for (const ipc::Notice& notice : sessions.notices()) {
    static const char* const kinds[] = {"broken", "gone", "drained"};
    out.append(py::make_tuple(kinds[static_cast<int>(notice.kind)], notice.id, notice.why));
  }
  return out;
}

py::dict stats(const Sessions& sessions) {
  const ipc::Stats stats = sessions.stats();
  py::list models, clients;
  for (const ipc::ModelStats& m : stats.models) {
    py::dict d;
    d["id"] = m.id;
    d["taken"] = m.taken;
    d["finished"] = m.finished;
    d["failed"] = m.failed;
    d["waiting"] = m.waiting;
    d["in_flight"] = m.in_flight;
    d["latency_counts"] = py::array_t<std::int64_t>(m.latencies.counts.size(),
                                                    m.latencies.counts.data());
    d["latency_sum_ns"] = m.latencies.sum_ns;
    models.append(d);
  }
  for (const ipc::SessionStats& s : stats.sessions) {
    py::dict d;
    d["id"] = s.id;
    d["taken"] = s.taken;
    d["answered"] = s.answered;
    d["refused"] = s.refused;
    d["memory_bytes"] = s.memory_bytes;
    clients.append(d);
  }
  py::dict out;
  out["models"] = models;
  out["sessions"] = clients;
  return out;
}

py::array_t<std::int64_t> latency_bounds_ns() {
  py::array_t<std::int64_t> bounds(ipc::Latencies::kClasses);
  for (int i = 0; i < ipc::Latencies::kClasses; ++i) bounds.mutable_at(i) = ipc::Latencies::bound_ns(i);
  return bounds;
}

// So that the Python side of the protocol can be held against this one.
py::dict layout() {
  py::dict d;
  d["version"] = ipc::kVersion;
  d["Packet"] = sizeof(ipc::Packet);
  d["Hello"] = sizeof(ipc::Hello);
  d["Welcome"] = sizeof(ipc::Welcome);
  d["ModelQuery"] = sizeof(ipc::ModelQuery);
  d["TensorInfo"] = sizeof(ipc::TensorInfo);
  d["ModelInfo"] = sizeof(ipc::ModelInfo);
  d["MemoryQuery"] = sizeof(ipc::MemoryQuery);
  d["MemoryInfo"] = sizeof(ipc::MemoryInfo);
  d["Registration"] = sizeof(ipc::Registration);
  return d;
}

}  // namespace

void bind_ipc(py::module_& m) {
  py::class_<Sessions, std::shared_ptr<Sessions>>(
      m, "Sessions", "Clients in other processes, as a server's source of requests.")
      .def(py::init(&make_sessions), py::kw_only(), py::arg("capacity"), py::arg("sessions"),
           py::arg("memories"), py::arg("session_bytes"), py::arg("total_bytes"))
      .def("attach", &attach, py::arg("lead_ns"))
      .def("detach", &Sessions::detach, py::arg("session"))
      .def("add_memory", &add_memory, py::arg("session"), py::arg("bytes"))
      .def(
          "add_model",
          [](Sessions& s, std::uint64_t input_bytes, std::uint64_t output_bytes, int instances,
             bool computes_outputs, bool empty) {
            return s.add_model({.input_bytes = input_bytes,
                                .output_bytes = output_bytes,
                                .instances = instances,
                                .computes_outputs = computes_outputs,
                                .empty = empty});
          },
          py::arg("input_bytes"), py::arg("output_bytes"), py::arg("instances") = 1,
          py::arg("computes_outputs") = true, py::arg("empty") = false)
      .def("wire_id", &Sessions::wire_id, py::arg("model"))
      .def("remove_model", &Sessions::remove_model, py::arg("model"))
      .def("release_model", &Sessions::release_model, py::arg("model"))
      .def("stop", &Sessions::stop)
      .def("ring", &Sessions::ring)
      .def("notice_descriptor", &Sessions::notice_descriptor)
      .def("notices", &notices)
      .def("stats", &stats)
      .def(
          "echo",
          [](Sessions& s, double service_us, double idle_ms, bool copy, int cpu) {
            const py::gil_scoped_release release;
            ipc::echo(s, {.service_ns = to_ns(service_us),
                          .idle_ns = to_ns(1e3 * idle_ms),
                          .copy = copy,
                          .cpu = cpu});
          },
          py::arg("service_us") = 0.0, py::arg("idle_ms") = 5.0, py::arg("copy") = false,
          py::arg("cpu") = -1, "Serves without a device until stop() and the last answer.");
  m.def("latency_bounds_ns", &latency_bounds_ns, "Upper bounds of the classes of stats().");
  m.def("ipc_layout", &layout, "Sizes of the control protocol's structures.");
}

}  // namespace paella::bindings
