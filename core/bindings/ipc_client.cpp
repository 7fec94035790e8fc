#include <memory>
#include <string>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "paella/client.hpp"
#include "waiting.hpp"

namespace paella::bindings {

namespace py = pybind11;


Waiting waiting(const std::string& name) {
  if (name == "poll") return Waiting::kPoll;
  if (name == "block") return Waiting::kBlock;
  if (name == "hybrid") return Waiting::kHybrid;
  throw Error("wake is poll, block or hybrid, not " + name);
}

namespace {

std::string text(const char* from, std::size_t room) { return {from, strnlen(from, room)}; }

py::dict model_dict(const ModelInfo& info) {
  const auto tensors = [&](std::size_t first, std::size_t count) {
    py::list list;
    for (std::size_t i = first; i < first + count && i < 8; ++i) {
      const ipc::TensorInfo& t = info.tensors[i];
      py::list shape;
      for (std::uint32_t k = 0; k < t.rank && k < 6; ++k) shape.append(t.dims[k]);
      list.append(py::make_tuple(text(t.dtype, sizeof t.dtype), shape, t.offset, t.bytes));
    }
    return list;
  };
  py::dict d;
  d["name"] = text(info.name, sizeof info.name);
  d["id"] = info.id;
  d["instances"] = info.instances;
  d["input_bytes"] = info.input_bytes;
  d["output_bytes"] = info.output_bytes;
  d["inputs"] = tensors(0, info.inputs);
  d["outputs"] = tensors(info.inputs, info.outputs);
  return d;
}

template <class F>
auto released(F&& f) {
  const py::gil_scoped_release release;
  return f();
}

// A client whose mappings last as long as any array on them.
class Connection {
 public:
  Connection(const std::string& server, const std::string& wake, std::uint32_t lead_us) {
    const ClientOptions options{waiting(wake), lead_us};
    const py::gil_scoped_release release;
    client_ = std::make_shared<Client>(server, options);
    client_->on_signal = [] {
      const py::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    };
  }

  std::uint32_t capacity() const { return client_->capacity(); }
  py::dict model(const std::string& name) {
    return model_dict(released([&] { return client_->model(name); }));
  }
  py::list models() {
    py::list list;
    for (const ModelInfo& info : released([&] { return client_->models(); })) {
      list.append(model_dict(info));
    }
    return list;
  }
  py::tuple memory(std::size_t bytes) {
    const Memory memory = released([&] { return client_->memory(bytes); });
    auto keep = std::make_unique<std::shared_ptr<Client>>(client_);
    const py::capsule owner(keep.release(),
                            [](void* p) { delete static_cast<std::shared_ptr<Client>*>(p); });
    return py::make_tuple(
        memory.id, py::array_t<std::uint8_t>(static_cast<py::ssize_t>(memory.bytes),
                                             reinterpret_cast<std::uint8_t*>(memory.data), owner));
  }
  void register_model(const std::string& name, const std::string& folder) {
    released([&] { client_->register_model(name, folder); });
  }
  void remove_model(const std::string& name) { released([&] { client_->remove_model(name); }); }
  std::string stats() {
    return released([&] { return client_->stats(); });
  }

  // With the interpreter's lock: one at a time.
  bool submit(std::uint64_t tag, std::uint32_t model, std::uint32_t input_memory,
              std::uint64_t input_offset, std::uint32_t output_memory,
              std::uint64_t output_offset) {
    return client_->submit({.tag = tag,
                            .model = model,
                            .input_memory = input_memory,
                            .input_offset = input_offset,
                            .output_memory = output_memory,
                            .output_offset = output_offset});
  }

  // Waits for an answer; all that are there, up to `most`.
  py::list wait(std::size_t most, double timeout_s) {
    std::vector<Answer> answers;
    released([&] {
      Answer answer;
      const auto timeout = timeout_s < 0 ? -1 : static_cast<std::int64_t>(timeout_s * 1e9);
      if (!client_->wait(answer, timeout)) return;
      do {
        answers.push_back(answer);
      } while (answers.size() < most && client_->poll(answer));
    });
    py::list list;
    for (const Answer& a : answers) {
      list.append(py::make_tuple(a.tag, a.status, a.taken_ns, a.submitted_ns, a.started_ns,
                                 a.finished_ns));
    }
    return list;
  }

  void interrupt() { client_->interrupt(); }

 private:
  std::shared_ptr<Client> client_;
};

}  // namespace

void bind_ipc_client(py::module_& m) {
  const auto error = py::register_exception<ClientError>(m, "ClientError", m.attr("Error"));
  py::register_exception<ServerGone>(m, "ServerGoneError", error);
  py::class_<Connection>(m, "ClientConnection", "The C++ client (paella/client.hpp).")
      .def(py::init<const std::string&, const std::string&, std::uint32_t>(), py::arg("server"),
           py::arg("wake") = "block", py::arg("lead_us") = 100)
      .def_property_readonly("capacity", &Connection::capacity)
      .def("model", &Connection::model, py::arg("name"))
      .def("models", &Connection::models)
      .def("memory", &Connection::memory, py::arg("bytes"))
      .def("register_model", &Connection::register_model, py::arg("name"), py::arg("folder"))
      .def("remove_model", &Connection::remove_model, py::arg("name"))
      .def("stats", &Connection::stats)
      .def("submit", &Connection::submit, py::arg("tag"), py::arg("model"),
           py::arg("input_memory"), py::arg("input_offset"), py::arg("output_memory"),
           py::arg("output_offset"))
      .def("wait", &Connection::wait, py::arg("most") = 256, py::arg("timeout_s") = -1.0)
      .def("interrupt", &Connection::interrupt);
  m.def("status_text", [](std::uint32_t status) {
    return what_happened(static_cast<ipc::Status>(status));
  });
}

}  // namespace paella::bindings
