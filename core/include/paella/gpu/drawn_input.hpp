#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <span>

namespace paella::gpu {

// The inputs of one of a model's instances, one after the other: floats uniform in [-1, 1), the
// same for the same seed on every way to serve it, so that outputs can be compared.
class DrawnInput {
 public:
  explicit DrawnInput(std::uint64_t seed) : random_(seed) {}

  void draw(std::span<unsigned char> input) {
    for (std::size_t at = 0; at + sizeof(float) <= input.size(); at += sizeof(float)) {
      const float value = static_cast<float>(random_() >> 40) * 0x1p-23f - 1;
      std::memcpy(&input[at], &value, sizeof(float));
    }
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace paella::gpu
