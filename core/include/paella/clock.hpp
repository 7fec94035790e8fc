#pragma once

#include <time.h>

#include "paella/time.hpp"

namespace paella {

inline TimeNs read_clock(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return TimeNs{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// The clock that all processes of a machine share.
inline TimeNs monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }

}  // namespace paella
