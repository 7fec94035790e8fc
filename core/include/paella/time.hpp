#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace paella {

// Every time inside the engine is an integer number of nanoseconds.
using TimeNs = std::int64_t;

inline constexpr TimeNs kNever = std::numeric_limits<TimeNs>::max();

// Microseconds to the nearest nanosecond; halves go to the even one. |us| < 9.2e15.
inline TimeNs to_ns(double us) { return std::llrint(us * 1e3); }
inline double to_us(TimeNs ns) { return static_cast<double>(ns) * 1e-3; }

}  // namespace paella
