#pragma once

#include <cmath>
#include <cstdint>
#include <random>

namespace paella::workload {

// The standard fixes mt19937 but leaves its distributions to the library. These are libstdc++'s
// uniform and normal ones (32 bits a float, 64 a double; Marsaglia's polar method), so that a seed
// gives the same trace with every compiler.
class Random {
 public:
  explicit Random(std::uint32_t seed) : bits_(seed) {}

  // In [0, 1).
  float uniform_float() {
    const float u = static_cast<float>(bits_()) / 0x1p32f;
    return u < 1.0f ? u : std::nextafter(1.0f, 0.0f);
  }

  // In [0, 1).
  double uniform() {
    const double low = static_cast<double>(bits_());
    const double u = (low + static_cast<double>(bits_()) * 0x1p32) / 0x1p64;
    return u < 1.0 ? u : std::nextafter(1.0, 0.0);
  }

  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    double x, y, square;
    do {
      x = 2.0 * uniform() - 1.0;
      y = 2.0 * uniform() - 1.0;
      square = x * x + y * y;
    } while (square > 1.0 || square == 0.0);
    const double factor = std::sqrt(-2.0 * std::log(square) / square);
    spare_ = x * factor;
    has_spare_ = true;
    return y * factor;
  }

 private:
  std::mt19937 bits_;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace paella::workload
