#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "paella/time.hpp"
#include "paella/baselines/triton_client/http2.hpp"

// The messages of Triton's inference service (its KServe protocol) that a load generator needs.
namespace paella::triton {

inline constexpr char kModelInfer[] = "/inference.GRPCInferenceService/ModelInfer";
inline constexpr char kRegisterMemory[] =
    "/inference.GRPCInferenceService/SystemSharedMemoryRegister";
inline constexpr char kUnregisterMemory[] =
    "/inference.GRPCInferenceService/SystemSharedMemoryUnregister";

// A model's tensors: a vector of 32-bit floats each, so many bytes.
struct ModelTensors {
  std::string name;
  std::vector<std::size_t> inputs, outputs;
};

// Where a job's tensors lie in a shared memory that the server knows by `region`.
struct SharedTensors {
  std::string region;
  std::size_t input_offset = 0, output_offset = 0;
};

// A gRPC message with its five bytes in front.
std::string framed(std::string_view message, std::size_t more_bytes = 0);

// Inputs and outputs in shared memory, one behind the other.
Message infer_shared(const ModelTensors& model, const SharedTensors& at);
// The inputs, `bytes` of them, are sent along; for a model with one input.
Message infer_in_band(const ModelTensors& model, const unsigned char* input);

// A POSIX shared memory, which the server then knows by its own name.
std::string register_memory(const std::string& name, std::size_t bytes);
std::string unregister_memory(const std::string& name);

// An answer's outputs that came in band, and when the backend began and ended with the request, on
// CLOCK_MONOTONIC; -1 where it does not say.
struct InferAnswer {
  std::vector<std::string_view> outputs;
  TimeNs began_ns = -1, ended_ns = -1;
  TimeNs late_ns = 0;  // of a simulated GPU behind the wall clock
};

// Of a message with its five bytes in front.
InferAnswer read_answer(std::string_view framed_message);

}  // namespace paella::triton
