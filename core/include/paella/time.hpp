#pragma once

#include <cstdint>
#include <limits>

namespace paella {

// Every time inside the engine is an integer number of nanoseconds.
using TimeNs = std::int64_t;

inline constexpr TimeNs kNever = std::numeric_limits<TimeNs>::max();

}  // namespace paella
