#include "paella/ipc/echo.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "paella/clock.hpp"
#include "paella/on_cpu.hpp"

namespace paella::ipc {

void echo(Sessions& sessions, const EchoOptions& options) {
  const OnCpu pinned(options.cpu);
  struct Served {
    request::Request request;
    TimeNs taken_ns;
  };
  std::deque<Served> served;
  TimeNs busy_ns = monotonic_ns();
  while (!sessions.done()) {
    TimeNs now = monotonic_ns();
    request::Request request;
    while (sessions.take(now, request)) {
      sessions.submitted(request, now);
      served.push_back({request, now});
      sessions.almost_finished(request, now + options.service_ns);
    }
    now = monotonic_ns();
    if (!served.empty()) busy_ns = now;
    while (!served.empty() && served.front().taken_ns + options.service_ns <= now) {
      const Served job = served.front();
      served.pop_front();
      if (options.copy) {
        const ModelSizes& sizes = sessions.sizes(job.request);
        const std::uint64_t bytes = std::min(sizes.input_bytes, sizes.output_bytes);
        if (bytes > 0) std::memcpy(job.request.output, job.request.input, bytes);
      }
      sessions.finished(job.request, job.taken_ns, now);
    }
    const TimeNs next = sessions.next_due_ns();
    if (next <= now) busy_ns = now;
    if (options.idle_ns > 0 && served.empty() && now - busy_ns > options.idle_ns) {
      sessions.idle_wait(next);
      busy_ns = monotonic_ns();
    }
  }
}

}  // namespace paella::ipc
