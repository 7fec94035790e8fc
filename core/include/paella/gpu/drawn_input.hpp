#pragma once

#include <cstddef>
#include <cstdint>
#include <random>

namespace paella::gpu {

// The input of one of a model's instances: uniform in [-1, 1), the same for the same seed on every
// way to serve it, so that outputs can be compared.
inline void draw_input(float* input, std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < count; ++i) {
    input[i] = static_cast<float>(random() >> 40) * 0x1p-23f - 1;
  }
}

}  // namespace paella::gpu
