#include <algorithm>
#include <cstring>

#include "executor.hpp"

namespace paella::triton {
namespace {

class EmptyInstance final : public ModelInstance {
 public:
  TimeNs execute(const std::vector<ConstBytes>& inputs,
                 const std::vector<Bytes>& outputs) override {
    repeat(inputs, outputs);
    return 0;
  }
};

class Empty final : public Executor {
 public:
  void load(std::size_t) override {}
  std::unique_ptr<ModelInstance> make_instance(std::size_t) override {
    return std::make_unique<EmptyInstance>();
  }
};

}  // namespace

void repeat(const std::vector<ConstBytes>& inputs, const std::vector<Bytes>& outputs) {
  std::size_t input = 0, at = 0;
  for (const Bytes& output : outputs) {
    for (std::size_t done = 0; done < output.size();) {
      const ConstBytes from = inputs[input];
      const std::size_t bytes = std::min(output.size() - done, from.size() - at);
      std::memcpy(output.data() + done, from.data() + at, bytes);
      done += bytes;
      at += bytes;
      if (at == from.size()) {
        at = 0;
        input = (input + 1) % inputs.size();
      }
    }
  }
}

std::unique_ptr<Executor> make_empty(const Description&) { return std::make_unique<Empty>(); }

}  // namespace paella::triton
