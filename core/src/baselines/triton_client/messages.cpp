#include "paella/baselines/triton_client/messages.hpp"

#include "paella/error.hpp"
#include "paella/baselines/triton_client/protobuf.hpp"

namespace paella::triton {
namespace {

constexpr std::size_t kFrameHead = 5;

// An entry of a map of parameters, as the field of a message.
ProtoWriter text_parameter(std::string_view name, std::string_view value) {
  return ProtoWriter().bytes(1, name).bytes(2, ProtoWriter().bytes(3, value).text());
}
ProtoWriter number_parameter(std::string_view name, std::size_t value) {
  return ProtoWriter().bytes(1, name).bytes(2, ProtoWriter().number(2, value).text());
}

void put_place(ProtoWriter& tensor, int field, const std::string& region, std::size_t offset,
               std::size_t bytes) {
  tensor.bytes(field, text_parameter("shared_memory_region", region).text())
      .bytes(field, number_parameter("shared_memory_byte_size", bytes).text());
  if (offset > 0) tensor.bytes(field, number_parameter("shared_memory_offset", offset).text());
}

void read_parameter(std::string_view entry, InferAnswer& answer) {
  std::string_view name;
  TimeNs value = -1;
  for (ProtoReader reader(entry); reader.next();) {
    if (reader.field() == 1) name = reader.bytes();
    if (reader.field() != 2) continue;
    for (ProtoReader parameter(reader.bytes()); parameter.next();) {
      if (parameter.field() == 2) value = static_cast<TimeNs>(parameter.number());
    }
  }
  if (name == "began_ns") answer.began_ns = value;
  if (name == "ended_ns") answer.ended_ns = value;
  if (name == "late_ns") answer.late_ns = value;
}

ProtoWriter input_tensor(std::size_t index, std::size_t bytes) {
  ProtoWriter tensor;
  tensor.bytes(1, "INPUT" + std::to_string(index)).bytes(2, "FP32");
  tensor.number(3, bytes / sizeof(float));
  return tensor;
}

}  // namespace

std::string framed(std::string_view message, std::size_t more_bytes) {
  const std::size_t length = message.size() + more_bytes;
  std::string text(1, '\0');  // not compressed
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(length >> shift & 255);
  return text.append(message);
}

Message infer_shared(const ModelTensors& model, const SharedTensors& at) {
  ProtoWriter request;
  request.bytes(1, model.name);
  std::size_t offset = at.input_offset;
  for (std::size_t i = 0; i < model.inputs.size(); ++i) {
    ProtoWriter tensor = input_tensor(i, model.inputs[i]);
    put_place(tensor, 4, at.region, offset, model.inputs[i]);
    request.bytes(5, tensor.text());
    offset += model.inputs[i];
  }
  offset = at.output_offset;
  for (std::size_t i = 0; i < model.outputs.size(); ++i) {
    ProtoWriter tensor;
    tensor.bytes(1, "OUTPUT" + std::to_string(i));
    put_place(tensor, 2, at.region, offset, model.outputs[i]);
    request.bytes(6, tensor.text());
    offset += model.outputs[i];
  }
  return {framed(request.text())};
}

Message infer_in_band(const ModelTensors& model, const unsigned char* input) {
  if (model.inputs.size() != 1) throw Error("tensors in band are for models with one input");
  const std::size_t bytes = model.inputs.front();
  ProtoWriter request;
  request.bytes(1, model.name).bytes(5, input_tensor(0, bytes).text()).bytes_follow(7, bytes);
  return {framed(request.text(), bytes), input, bytes};
}

std::string register_memory(const std::string& name, std::size_t bytes) {
  return framed(ProtoWriter().bytes(1, name).bytes(2, name).number(4, bytes).text());
}

std::string unregister_memory(const std::string& name) {
  return framed(ProtoWriter().bytes(1, name).text());
}

InferAnswer read_answer(std::string_view framed_message) {
  if (framed_message.size() < kFrameHead) throw Error("the server sends a malformed answer");
  InferAnswer answer;
  ProtoReader reader(framed_message.substr(kFrameHead));
  while (reader.next()) {
    if (reader.field() == 6) answer.outputs.push_back(reader.bytes());
    if (reader.field() == 4) read_parameter(reader.bytes(), answer);
  }
  return answer;
}

}  // namespace paella::triton
