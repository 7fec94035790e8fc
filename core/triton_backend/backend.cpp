// The entry points of the server's backend `paella`. No exception leaves them: what goes wrong
// becomes one of the server's error objects, of a model that does not load or of a request.
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "api.hpp"
#include "executor.hpp"
#include "paella/clock.hpp"
#include "paella/error.hpp"

#define ENTRY extern "C" __attribute__((visibility("default"))) TRITONSERVER_Error*

namespace paella::triton {
namespace {

// An Error of the server's own kind of reason.
struct Refusal {
  TRITONSERVER_Error_Code code;
  std::string text;
};

[[noreturn]] void refuse(TRITONSERVER_Error_Code code, std::string text) {
  throw Refusal{code, std::move(text)};
}

// Throws what one of the server's functions complains of.
void check(TRITONSERVER_Error* error) {
  if (!error) return;
  const std::string text = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw Error(text);
}

// The error object of what `work` throws; none if it does not.
template <class Work>
TRITONSERVER_Error* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const Refusal& refusal) {
    return TRITONSERVER_ErrorNew(refusal.code, refusal.text.c_str());
  } catch (const std::exception& e) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, e.what());
  } catch (...) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, "an unknown failure");
  }
}

// One for all models, made with the first and gone with the last.
class Machine {
 public:
  explicit Machine(const std::string& path) : description(read_description(path)) {
    switch (description.execute) {
      case Execute::kEmpty: executor = make_empty(description); break;
      case Execute::kSim: executor = make_simulated(description); break;
      case Execute::kCuda: executor = make_cuda(description); break;
    }
  }
  static std::shared_ptr<Machine> get(const std::string& path) {
    static std::mutex mutex;
    static std::weak_ptr<Machine> there;
    const std::lock_guard lock(mutex);
    std::shared_ptr<Machine> machine = there.lock();
    if (!machine) there = machine = std::make_shared<Machine>(path);
    return machine;
  }

  const Description description;
  std::unique_ptr<Executor> executor;
};

struct Model {
  std::shared_ptr<Machine> machine;
  std::size_t index;
  const DescribedModel& described() const { return machine->description.models[index]; }
};

struct Instance {
  const Model* model;
  std::unique_ptr<ModelInstance> work;
};

Model* model_of(TRITONBACKEND_Model* model) {
  void* state = nullptr;
  check(TRITONBACKEND_ModelState(model, &state));
  return static_cast<Model*>(state);
}

Model* new_model(TRITONBACKEND_Model* handle) {
  const char* name = nullptr;
  check(TRITONBACKEND_ModelName(handle, &name));
  int kind = 0;
  const char* folder = nullptr;
  check(TRITONBACKEND_ModelRepository(handle, &kind, &folder));
  if (kind != TRITONBACKEND_ARTIFACT_FILESYSTEM) {
    refuse(TRITONSERVER_ERROR_UNSUPPORTED, "models of paella lie in a folder");
  }
  const auto path = std::filesystem::path(folder).parent_path() / "paella.json";
  auto machine = Machine::get(path.string());
  const auto& models = machine->description.models;
  for (std::size_t m = 0; m < models.size(); ++m) {
    if (models[m].name != name) continue;
    machine->executor->load(m);
    return new Model{machine, m};
  }
  refuse(TRITONSERVER_ERROR_INVALID_ARG, path.string() + " does not describe model " + name);
}

// The bytes of an input, in one piece on the host.
ConstBytes input_of(TRITONBACKEND_Request* request, std::size_t index, std::size_t expected) {
  const std::string wanted = "INPUT" + std::to_string(index);
  TRITONBACKEND_Input* input = nullptr;
  check(TRITONBACKEND_RequestInput(request, wanted.c_str(), &input));
  TRITONSERVER_DataType type{};
  std::uint64_t bytes = 0;
  std::uint32_t buffers = 0;
  check(TRITONBACKEND_InputProperties(input, nullptr, &type, nullptr, nullptr, &bytes, &buffers));
  if (type != TRITONSERVER_TYPE_FP32 || bytes != expected) {
    refuse(TRITONSERVER_ERROR_INVALID_ARG,
           wanted + " has " + std::to_string(bytes) + " bytes; the model takes " +
               std::to_string(expected) + " bytes of FP32");
  }
  if (buffers != 1) {
    refuse(TRITONSERVER_ERROR_UNSUPPORTED,
           wanted + " comes in " + std::to_string(buffers) + " pieces");
  }
  const void* buffer = nullptr;
  auto memory = TRITONSERVER_MEMORY_CPU;
  std::int64_t memory_id = 0;
  check(TRITONBACKEND_InputBuffer(input, 0, &buffer, &bytes, &memory, &memory_id));
  if (memory == TRITONSERVER_MEMORY_GPU) {
    refuse(TRITONSERVER_ERROR_UNSUPPORTED, wanted + " lies in GPU memory");
  }
  return {static_cast<const unsigned char*>(buffer), bytes};
}

Bytes output_of(TRITONBACKEND_Response* response, std::size_t index, std::size_t bytes) {
  const std::string name = "OUTPUT" + std::to_string(index);
  const auto elements = static_cast<std::int64_t>(bytes / sizeof(float));
  TRITONBACKEND_Output* output = nullptr;
  check(TRITONBACKEND_ResponseOutput(response, &output, name.c_str(), TRITONSERVER_TYPE_FP32,
                                     &elements, 1));
  void* buffer = nullptr;
  auto memory = TRITONSERVER_MEMORY_CPU;
  std::int64_t memory_id = 0;
  check(TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &memory, &memory_id));
  if (memory == TRITONSERVER_MEMORY_GPU) {
    refuse(TRITONSERVER_ERROR_UNSUPPORTED, name + " is asked for in GPU memory");
  }
  return {static_cast<unsigned char*>(buffer), bytes};
}

// How late the outputs are, as ModelInstance says.
TimeNs answer(Instance& instance, TRITONBACKEND_Request* request,
              TRITONBACKEND_Response* response) {
  const DescribedModel& model = instance.model->described();
  std::uint32_t count = 0;
  check(TRITONBACKEND_RequestInputCount(request, &count));
  if (count != model.inputs.size()) {
    refuse(TRITONSERVER_ERROR_INVALID_ARG,
           "the model takes " + std::to_string(model.inputs.size()) + " inputs");
  }
  std::vector<ConstBytes> inputs;
  for (std::size_t i = 0; i < model.inputs.size(); ++i) {
    inputs.push_back(input_of(request, i, model.inputs[i]));
  }
  std::vector<Bytes> outputs;
  for (std::size_t i = 0; i < model.outputs.size(); ++i) {
    outputs.push_back(output_of(response, i, model.outputs[i]));
  }
  if (instance.model->machine->description.fail_model == model.name) {
    throw Error("model " + model.name + " is made to fail");
  }
  return instance.work->execute(inputs, outputs);
}

// CLOCK_MONOTONIC, which a client on this machine has, too: it knows what is the server's.
void tell_times(TRITONBACKEND_Response* response, std::uint64_t begin, std::uint64_t end,
                TimeNs late) {
  const auto tell = [&](const char* name, std::uint64_t value) {
    check(TRITONBACKEND_ResponseSetIntParameter(response, name, static_cast<std::int64_t>(value)));
  };
  tell("began_ns", begin);
  tell("ended_ns", end);
  if (late > 0) tell("late_ns", static_cast<std::uint64_t>(late));
}

// The server wants every request answered and released, whatever happens to it.
void serve(TRITONBACKEND_ModelInstance* handle, Instance& instance,
           TRITONBACKEND_Request* request) {
  const auto begin = static_cast<std::uint64_t>(monotonic_ns());
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, request);
  TimeNs late = 0;
  if (!error) error = guarded([&] { late = answer(instance, request, response); });
  const bool right = error == nullptr;
  const auto end = static_cast<std::uint64_t>(monotonic_ns());
  if (response && !error) error = guarded([&] { tell_times(response, begin, end, late); });
  if (response) {
    // The error stays ours.
    TRITONSERVER_Error* failed =
        TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error);
    if (failed) TRITONSERVER_ErrorDelete(failed);
  }
  if (error) TRITONSERVER_ErrorDelete(error);
  TRITONSERVER_Error* unreported =
      TRITONBACKEND_ModelInstanceReportStatistics(handle, request, right, begin, begin, end, end);
  if (unreported) TRITONSERVER_ErrorDelete(unreported);
  TRITONSERVER_Error* kept =
      TRITONBACKEND_RequestRelease(request, TRITONSERVER_REQUEST_RELEASE_ALL);
  if (kept) TRITONSERVER_ErrorDelete(kept);
}

}  // namespace
}  // namespace paella::triton

using namespace paella::triton;

ENTRY TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
  return guarded([] {
    std::uint32_t major = 0, minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != kApiMajor || minor < kApiMinor) {
      refuse(TRITONSERVER_ERROR_UNSUPPORTED, "this server's interface for backends is " +
                                                 std::to_string(major) + "." +
                                                 std::to_string(minor) + "; paella needs 1.10");
    }
  });
}

ENTRY TRITONBACKEND_Finalize(TRITONBACKEND_Backend*) { return nullptr; }

ENTRY TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([&] { check(TRITONBACKEND_ModelSetState(model, new_model(model))); });
}

ENTRY TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded([&] { delete model_of(model); });
}

ENTRY TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] {
    TRITONBACKEND_Model* model = nullptr;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    const Model* of = model_of(model);
    auto made = std::make_unique<Instance>(of, of->machine->executor->make_instance(of->index));
    check(TRITONBACKEND_ModelInstanceSetState(instance, made.get()));
    made.release();
  });
}

ENTRY TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(instance, &state));
    delete static_cast<Instance*>(state);
  });
}

ENTRY TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* handle,
                                         TRITONBACKEND_Request** requests,
                                         const std::uint32_t count) {
  void* state = nullptr;
  if (TRITONSERVER_Error* error = TRITONBACKEND_ModelInstanceState(handle, &state)) return error;
  for (std::uint32_t r = 0; r < count; ++r) {
    serve(handle, *static_cast<Instance*>(state), requests[r]);
  }
  return nullptr;
}
