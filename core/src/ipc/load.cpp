#include "paella/ipc/load.hpp"

#include <cstring>
#include <ctime>
#include <memory>
#include <random>
#include <thread>

#include "paella/clock.hpp"
#include "paella/error.hpp"
#include "paella/on_cpu.hpp"
#include "paella/slots.hpp"
#include "paella/spsc_queue.hpp"

namespace paella::ipc {
namespace {

constexpr TimeNs kLeadNs = 20'000'000;  // from the start to the first due time
constexpr std::int64_t kLookTurns = 4096;  // of a loop that never sleeps, between looks at the server
constexpr TimeNs kSpinNs = 100'000;     // before a due time: sleeping is not that exact

double process_cpu_us() { return static_cast<double>(read_clock(CLOCK_PROCESS_CPUTIME_ID)) * 1e-3; }

struct Received {
  Answer answer;
  TimeNs at_ns;
};

// Input and output of one job at a time.
struct Buffers {
  std::uint32_t memory = kNoMemory;
  std::uint64_t input_at = 0, output_at = 0;
  char* output = nullptr;
};

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

class Load {
 public:
  Load(const LoadSpec& spec, record::Jobs& jobs)
      : spec_(spec), server_(spec.server, spec.options), source_(spec.client, jobs) {
    for (std::size_t m = 0; m < spec.models.size(); ++m) {
      infos_.push_back(server_.model(spec.models[m]));
      make_buffers(m);
    }
    if (static_cast<std::int64_t>(server_.capacity()) < spec.client.cap) {
      throw Error("server " + spec.server + " takes " + std::to_string(server_.capacity()) +
                  " requests of a client at a time, and the run has a cap of " +
                  std::to_string(spec.client.cap));
    }
  }

  LoadResult run() {
    const OnCpu pinned(spec_.cpu);
    const double cpu_before_us = process_cpu_us();
    origin_ns_ = monotonic_ns() + kLeadNs;
    heard_ns_ = origin_ns_;
    if (spec_.options.waiting == Waiting::kPoll) {
      poll_all();
    } else {
      wait_all();
    }
    result_.cpu_us = process_cpu_us() - cpu_before_us;
    return result_;
  }

 private:
  struct Sent {
    request::Request request;
    std::size_t buffers;
  };

  void make_buffers(std::size_t m) {
    const ModelInfo& info = infos_[m];
    const std::uint64_t each = aligned(info.input_bytes) + aligned(info.output_bytes);
    const auto count = static_cast<std::uint64_t>(spec_.client.instances[m]);
    Memory memory{kNoMemory, nullptr, 0};
    if (each > 0) memory = server_.memory(each * count);
    references_.emplace_back();
    auto& free = free_.emplace_back();
    for (std::uint64_t i = 0; i < count; ++i) {
      Buffers b;
      b.memory = memory.id;
      b.input_at = i * each;
      b.output_at = b.input_at + aligned(info.input_bytes);
      if (memory.data) b.output = memory.data + b.output_at;
      if (memory.data) fill(memory.data + b.input_at, info.input_bytes);
      free.push_back(buffers_.size());
      buffers_.push_back(std::move(b));
    }
  }

  // The same for all instances of a model, so that their outputs are, too.
  static void fill(char* to, std::uint64_t bytes) {
    std::mt19937_64 random(bytes);
    for (std::uint64_t i = 0; i + sizeof(float) <= bytes; i += sizeof(float)) {
      const float value = static_cast<float>(random() >> 40) * 0x1p-23f - 1;
      std::memcpy(to + i, &value, sizeof value);
    }
  }

  TimeNs now() const { return monotonic_ns() - origin_ns_; }

  // All that is due.
  void send() {
    const TimeNs at = now();
    longest(at);
    request::Request request;
    while (source_.take(at, request)) {
      auto& free = free_[static_cast<std::size_t>(request.model)];
      const std::size_t buffers = free.back();
      free.pop_back();
      const std::int32_t slot = sent_.take();
      sent_[slot] = {request, buffers};
      const ModelInfo& info = infos_[static_cast<std::size_t>(request.model)];
      const Buffers& b = buffers_[buffers];
      Call call;
      call.tag = static_cast<std::uint64_t>(slot);
      call.model = info.id;
      call.input_memory = call.output_memory = b.memory;
      call.input_offset = b.input_at;
      call.output_offset = b.output_at;
      call.due_ns = static_cast<std::uint64_t>(request.due_ns + origin_ns_);
      if (!server_.submit(call)) throw Error("the server's ring is full below its capacity");
      ++outstanding_;
      source_.submitted(request, now());
    }
  }

  void receive(const Received& received) {
    const Answer& answer = received.answer;
    const Sent sent = sent_[static_cast<std::int32_t>(answer.tag)];
    sent_.give_back(static_cast<std::int32_t>(answer.tag));
    --outstanding_;
    heard_ns_ = received.at_ns;
    const auto status = static_cast<Status>(answer.status);
    if (status != Status::kOk && status != Status::kNoOutput) {
      throw Error("server " + spec_.server + ": " + what_happened(status));
    }
    check_output(sent, status);
    free_[static_cast<std::size_t>(sent.request.model)].push_back(sent.buffers);
    const TimeNs started = answer.started_ns > 0 ? answer.started_ns - origin_ns_ : -1;
    source_.finished(sent.request, started, received.at_ns - origin_ns_);
  }

  void check_output(const Sent& sent, Status status) {
    const ModelInfo& info = infos_[static_cast<std::size_t>(sent.request.model)];
    if (status == Status::kNoOutput) {
      ++result_.without_output;
      return;
    }
    if (info.output_bytes == 0) return;
    char* output = buffers_[sent.buffers].output;
    auto& reference = references_[static_cast<std::size_t>(sent.request.model)];
    if (reference.empty()) {
      reference.assign(output, output + info.output_bytes);
    } else {
      ++result_.outputs_checked;
      if (std::memcmp(output, reference.data(), info.output_bytes) != 0) {
        throw Error(std::string("the output of a job of ") + info.name +
                    " is not what the model gave before for the same input");
      }
    }
    std::memset(output, 0xff, info.output_bytes);  // so that one that does not come is seen
  }

  void longest(TimeNs at) {
    if (turn_ns_ > 0) result_.longest_turn_ns = std::max(result_.longest_turn_ns, at - turn_ns_);
    turn_ns_ = at;
  }

  void check_patience() const {
    if (outstanding_ == 0) return;
    const double silent_s = static_cast<double>(monotonic_ns() - heard_ns_) * 1e-9;
    if (silent_s < spec_.patience_s) return;
    throw Error("server " + spec_.server + " has answered nothing for " +
                std::to_string(static_cast<int>(silent_s)) + " s");
  }

  // One thread, which never sleeps.
  void poll_all() {
    Received received;
    for (std::int64_t turn = 0; !source_.done(); ++turn) {
      send();
      while (server_.poll(received.answer)) {
        received.at_ns = monotonic_ns();
        receive(received);
      }
      if (turn % kLookTurns == 0) {
        server_.check_alive();
        check_patience();
      }
    }
  }

  // A second thread waits for answers as the options say.
  void wait_all() {
    SpscQueue<Received> answers(server_.capacity() + 1);
    std::atomic<bool> stop{false}, gone{false};
    std::string why;
    std::thread receiver([&] {
      const OnCpu pinned(spec_.receiver_cpu);
      try {
        Received received;
        while (!stop) {
          if (!server_.wait(received.answer, 50'000'000)) continue;
          received.at_ns = monotonic_ns();
          answers.push(received);
        }
      } catch (const ClientError& e) {
        why = e.what();
        gone = true;
      }
    });
    try {
      while (!source_.done()) {
        send();
        while (const Received* received = answers.front()) {
          receive(*received);
          answers.pop();
        }
        if (gone) throw ServerGone(why);
        check_patience();
        doze();
      }
    } catch (...) {
      stop = true;
      server_.interrupt();
      receiver.join();
      throw;
    }
    stop = true;
    receiver.join();
  }

  // Until the next request is nearly due, but not long: an answer may let another one go.
  void doze() const {
    const TimeNs next = source_.next_due_ns();
    const TimeNs left = next == kNever ? 10 * kSpinNs : next - now();
    if (left <= kSpinNs) return;
    std::this_thread::sleep_for(std::chrono::nanoseconds(std::min(left - kSpinNs, kSpinNs)));
  }

  const LoadSpec& spec_;
  Client server_;
  request::TraceClient source_;
  std::vector<ModelInfo> infos_;
  std::vector<Buffers> buffers_;
  std::vector<std::vector<char>> references_;   // the first output of each model
  std::vector<std::vector<std::size_t>> free_;  // buffers, by model
  Slots<Sent> sent_;
  LoadResult result_;
  std::int64_t outstanding_ = 0;
  TimeNs origin_ns_ = 0, heard_ns_ = 0, turn_ns_ = 0;
};

}  // namespace

LoadResult load(const LoadSpec& spec, record::Jobs& jobs) { return Load(spec, jobs).run(); }

}  // namespace paella::ipc
