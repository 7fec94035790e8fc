// Sends one request to a Paella server and prints the first numbers of the answer.
//
//   c++ -std=c++17 -I core/include examples/client.cpp -o client && ./client demo resnet18
#include <algorithm>
#include <cstdio>

#include "paella/client.hpp"

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("client SERVER MODEL\n", stderr), 2;
  try {
    paella::Client client(argv[1]);
    const paella::ModelInfo model = client.model(argv[2]);

    // Input and output in memory that is shared with the server, each aligned to 64 bytes.
    const std::uint64_t output_offset = (model.input_bytes + 63) / 64 * 64;
    const paella::Memory memory = client.memory(output_offset + model.output_bytes);
    auto* input = reinterpret_cast<float*>(memory.data);
    std::fill(input, input + model.input_bytes / sizeof(float), 0.5f);

    client.submit({1, model.id, memory.id, 0, memory.id, output_offset});
    paella::Answer answer;
    client.wait(answer);
    const auto status = static_cast<paella::ipc::Status>(answer.status);
    std::printf("%s: %s", argv[2], paella::what_happened(status));
    if (status == paella::ipc::Status::kOk) {
      const auto* output = reinterpret_cast<const float*>(memory.data + output_offset);
      std::printf(": %g %g %g …", output[0], output[1], output[2]);
    }
    std::puts("");
  } catch (const paella::ClientError& e) {
    return std::fprintf(stderr, "%s\n", e.what()), 1;
  }
}
