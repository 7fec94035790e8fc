#include "paella/baselines/triton_client/load.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "paella/clock.hpp"
#include "paella/request/trace_client.hpp"
#include "paella/error.hpp"
#include "paella/gpu/drawn_input.hpp"
#include "paella/on_cpu.hpp"
#include "paella/baselines/triton_client/grpc_client.hpp"
#include "paella/baselines/triton_client/shared_memory.hpp"

namespace paella::triton {
namespace {

constexpr int kPoison = 0xff;                // NaN as a float
constexpr TimeNs kSleepsLateNs = 100'000;    // a thread that sleeps may wake so late
constexpr TimeNs kLongestSleepNs = 100'000'000;
constexpr std::size_t kAlignment = 4096;

std::size_t total(const std::vector<std::size_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

TimeNs cpu_ns() { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

// The tensors of one request at a time of a model: as many as it has instances.
struct Slot {
  std::int32_t model = 0;
  std::size_t input_offset = 0, output_offset = 0;
  Message message;       // the same every time
  std::string expected;  // outputs
};

class Load {
 public:
  Load(const request::ClientSpec& client, record::Jobs jobs,
       const std::vector<ModelTensors>& models, const LoadOptions& options)
      : options_(options),
        models_(models),
        grpc_(options.port, options.connections),
        free_(models.size()) {
    place(client.instances);
    fill();
    times_.resize(slots_.size());
    result_.ended_ns.assign(jobs.size(), -1);
    result_.jobs = std::move(jobs);
    if (!options.in_band) {
      grpc_.ask(kRegisterMemory, register_memory(memory_->name(), memory_->bytes()));
      memory_->unlink();
    }
  }

  LoadResult run(request::ClientSpec spec) {
    warm_up();
    request::TraceClient client(std::move(spec), result_.jobs);
    requests_.resize(slots_.size());
    origin_ns_ = monotonic_ns();
    const TimeNs cpu_before = cpu_ns();
    last_answer_ns_ = 0;
    TimeNs before = 0;
    while (!client.done()) {
      const TimeNs cpu = cpu_ns();
      const TimeNs now = monotonic_ns() - origin_ns_;
      const bool sent = send_due(client, now, before);
      before = now;
      if (receive(client) || sent) {
        result_.own_us += static_cast<double>(cpu_ns() - cpu) * 1e-3;
      }
      rest(client);
    }
    result_.elapsed_ns = monotonic_ns() - origin_ns_;
    result_.cpu_us = static_cast<double>(cpu_ns() - cpu_before) * 1e-3;
    if (!options_.in_band) grpc_.ask(kUnregisterMemory, unregister_memory(memory_->name()));
    return std::move(result_);
  }

 private:
  void place(const std::vector<std::int32_t>& instances) {
    std::size_t bytes = 0;
    for (std::size_t m = 0; m < models_.size(); ++m) {
      for (std::int32_t i = 0; i < instances[m]; ++i) {
        Slot slot;
        slot.model = static_cast<std::int32_t>(m);
        slot.input_offset = bytes;
        bytes += aligned(total(models_[m].inputs));
        slot.output_offset = bytes;
        bytes += aligned(total(models_[m].outputs));
        free_[m].push_back(static_cast<std::int32_t>(slots_.size()));
        slots_.push_back(std::move(slot));
      }
    }
    memory_ = std::make_unique<SharedMemory>(bytes);
  }

  // As gpu::cuda::CudaDevice draws them: slot by slot.
  void fill() {
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      Slot& slot = slots_[s];
      const ModelTensors& model = models_[slot.model];
      unsigned char* input = memory_->data() + slot.input_offset;
      const std::size_t bytes = total(model.inputs);
      gpu::DrawnInput(options_.seed + s).draw({input, bytes});
      const SharedTensors at{memory_->name(), slot.input_offset, slot.output_offset};
      slot.message = options_.in_band ? infer_in_band(model, input) : infer_shared(model, at);
      if (!options_.expected.empty()) {
        slot.expected = options_.expected.at(s);
        continue;
      }
      for (std::size_t i = 0; i < total(model.outputs); ++i) {
        slot.expected += static_cast<char>(input[i % bytes]);
      }
    }
  }

  // All instances of a model at the same time, so that each has one request.
  void warm_up() {
    for (const std::vector<std::int32_t>& slots : free_) {
      last_answer_ns_ = monotonic_ns();
      for (const std::int32_t slot : slots) send(slot);
      for (std::size_t left = slots.size(); left > 0;) {
        grpc_.wait(kSleepsLateNs);
        left -= poll("in the warm-up");
      }
    }
  }

  void send(std::int32_t slot) {
    if (!options_.in_band) {
      std::memset(memory_->data() + slots_[slot].output_offset, kPoison,
                  slots_[slot].expected.size());
    }
    ++in_flight_;
    grpc_.send(slot, kModelInfer, slots_[slot].message);
  }

  // Whether anything was.
  bool send_due(request::TraceClient& client, TimeNs now, TimeNs before) {
    request::Request request;
    bool any = false;
    while (client.take(now, request)) {
      auto& free = free_[request.model];
      const std::int32_t slot = free.back();
      free.pop_back();
      requests_[slot] = request;
      if (in_flight_ == 0) last_answer_ns_ = now;
      client.submitted(request, monotonic_ns() - origin_ns_);
      send(slot);
      if (request.due_ns > before) {
        const TimeNs sent = monotonic_ns() - origin_ns_;
        result_.late_us.push_back(static_cast<double>(sent - request.due_ns) * 1e-3);
      }
      any = true;
    }
    return any;
  }

  bool receive(request::TraceClient& client) {
    if (poll("during the run") == 0) return false;
    const TimeNs at = monotonic_ns() - origin_ns_;
    for (const Answer& answer : answers_) {
      const request::Request& request = requests_[answer.call];
      free_[request.model].push_back(static_cast<std::int32_t>(answer.call));
      const Times& times = times_[answer.call];
      client.finished(request, since_origin(times.began_ns), at);
      result_.ended_ns[request.job] = since_origin(times.ended_ns);
      result_.gpu_late_ns = std::max(result_.gpu_late_ns, times.late_ns);
      ++result_.outputs_checked;
    }
    return true;
  }

  // How many answers have come; all are right.
  std::size_t poll(const char* when) {
    answers_.clear();
    grpc_.poll(answers_);
    const TimeNs now = monotonic_ns() - origin_ns_;
    if (answers_.empty()) {
      const TimeNs limit = static_cast<TimeNs>(options_.watchdog_s * 1e9);
      if (in_flight_ > 0 && now - last_answer_ns_ > limit) {
        throw Error("the Triton server has answered nothing for " +
                    std::to_string(limit / 1'000'000'000) + " s, with " +
                    std::to_string(in_flight_) + " requests in flight");
      }
      return 0;
    }
    last_answer_ns_ = now;
    for (const Answer& answer : answers_) check(answer, when);
    in_flight_ -= static_cast<std::int64_t>(answers_.size());
    return answers_.size();
  }

  TimeNs since_origin(TimeNs at) const { return at < 0 ? -1 : at - origin_ns_; }

  void check(const Answer& answer, const char* when) {
    const Slot& slot = slots_.at(answer.call);
    const std::string& model = models_[slot.model].name;
    if (answer.status != 0) {
      throw Error("the Triton server refuses a request of " + model + " " + when + ": " +
                  answer.reason);
    }
    const InferAnswer read = read_answer(answer.message);
    times_[answer.call] = {read.began_ns, read.ended_ns, read.late_ns};
    bool right = false;
    if (options_.in_band) {
      std::string outputs;
      for (const std::string_view output : read.outputs) outputs += output;
      right = outputs == slot.expected;
    } else {
      right = std::memcmp(memory_->data() + slot.output_offset, slot.expected.data(),
                          slot.expected.size()) == 0;
    }
    if (!right) {
      throw Error("an output of " + model + " through Triton is not what the model gives " + when);
    }
  }

  void rest(const request::TraceClient& client) const {
    if (options_.spin) return;
    const TimeNs now = monotonic_ns() - origin_ns_;
    const TimeNs due = client.next_due_ns();
    const TimeNs until = due == kNever ? kLongestSleepNs : due - now - kSleepsLateNs;
    if (until > 0) grpc_.wait(std::min(until, kLongestSleepNs));
  }

  const LoadOptions& options_;
  const std::vector<ModelTensors>& models_;
  GrpcClient grpc_;
  std::unique_ptr<SharedMemory> memory_;
  std::vector<Slot> slots_;
  std::vector<std::vector<std::int32_t>> free_;  // slots, of each model
  std::vector<request::Request> requests_;        // by slot
  struct Times {
    TimeNs began_ns = -1, ended_ns = -1, late_ns = 0;  // as InferAnswer has them
  };
  std::vector<Times> times_;  // of the last answer, by slot
  std::vector<Answer> answers_;
  std::int64_t in_flight_ = 0;
  TimeNs origin_ns_ = 0, last_answer_ns_ = 0;
  LoadResult result_;
};

}  // namespace

LoadResult load(const request::ClientSpec& client, record::Jobs jobs,
                const std::vector<ModelTensors>& models, const LoadOptions& options) {
  if (models.size() != client.instances.size()) {
    throw Error("every model of the mix needs its tensors");
  }
  const OnCpu pinned(options.cpu);
  return Load(client, std::move(jobs), models, options).run(client);
}

}  // namespace paella::triton
