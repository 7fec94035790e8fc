#pragma once

#include <pthread.h>
#include <sched.h>

namespace paella {

inline cpu_set_t allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  pthread_getaffinity_np(pthread_self(), sizeof set, &set);
  return set;
}

// Keeps the calling thread on one CPU until the end of the scope; a negative one is any.
class OnCpu {
 public:
  explicit OnCpu(int cpu) : before_(allowed_cpus()) {
    if (cpu < 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
  }
  ~OnCpu() { pthread_setaffinity_np(pthread_self(), sizeof before_, &before_); }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;

 private:
  cpu_set_t before_;
};

}  // namespace paella
