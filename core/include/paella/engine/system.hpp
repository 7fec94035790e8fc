#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <variant>

#include "paella/sched/policy.hpp"
#include "paella/spec/fields.hpp"

// A way to serve, as paella.schema.System describes it: what each field means is said there.
namespace paella::engine {

enum class Submission { kDispatcher, kDirect };
enum class Processes { kShared, kPerModel };
enum class Sharing { kMps, kTimeSlices };
enum class PerInstance { kPerInstance };
enum class Kernels { kPlain, kInstrumented };
enum class Launch { kKernels, kGraph };
enum class Estimates { kProfile, kLearned };
enum class WarmUp { kNone, kInstances };
enum class StreamOwner { kJob, kStage };
enum class WholeUnit { kKernel, kJob };
enum class NotifyEnd { kUnit, kStream };

constexpr auto names(Submission) { return std::array<std::string_view, 2>{"dispatcher", "direct"}; }
constexpr auto names(Processes) { return std::array<std::string_view, 2>{"shared", "per-model"}; }
constexpr auto names(Sharing) { return std::array<std::string_view, 2>{"mps", "time-slices"}; }
constexpr auto names(PerInstance) { return std::array<std::string_view, 1>{"per-instance"}; }
constexpr auto names(Kernels) { return std::array<std::string_view, 2>{"plain", "instrumented"}; }
constexpr auto names(Launch) { return std::array<std::string_view, 2>{"kernels", "graph"}; }
constexpr auto names(Estimates) { return std::array<std::string_view, 2>{"profile", "learned"}; }
constexpr auto names(WarmUp) { return std::array<std::string_view, 2>{"none", "instances"}; }
constexpr auto names(StreamOwner) { return std::array<std::string_view, 2>{"job", "stage"}; }
constexpr auto names(WholeUnit) { return std::array<std::string_view, 2>{"kernel", "job"}; }
constexpr auto names(NotifyEnd) { return std::array<std::string_view, 2>{"unit", "stream"}; }

struct Segment {
  std::optional<std::int32_t> kernels;
  std::optional<double> us;
};

template <spec::Of<Segment> Self>
void fields(Self& self, auto&& field) {
  field("kernels", self.kernels);
  field("us", self.us);
}

using UnitOfDispatch = std::variant<WholeUnit, Segment>;

struct BlockNotes {
  std::int32_t blocks = 0;
};

template <spec::Of<BlockNotes> Self>
void fields(Self& self, auto&& field) {
  field("blocks", self.blocks);
}

struct Streams {
  std::optional<std::int32_t> count;
  StreamOwner owner = StreamOwner::kJob;
};

template <spec::Of<Streams> Self>
void fields(Self& self, auto&& field) {
  field("count", self.count);
  field("owner", self.owner);
}

struct RequestPath {
  double latency = 0;
  double cpu = 0;
  double response = 0;
};

template <spec::Of<RequestPath> Self>
void fields(Self& self, auto&& field) {
  field("latency", self.latency);
  field("cpu", self.cpu);
  field("response", self.response);
}

struct SystemSpec {
  Submission submission = Submission::kDispatcher;
  Streams streams;
  std::variant<NotifyEnd, BlockNotes> notify;
  Processes processes = Processes::kShared;
  Sharing sharing = Sharing::kMps;
  std::variant<std::int32_t, PerInstance> threads = 1;
  Kernels kernels = Kernels::kPlain;
  std::optional<spec::Choice> policy;
  spec::Choice admission;
  UnitOfDispatch unit;
  Launch launch = Launch::kKernels;
  Estimates estimates = Estimates::kProfile;
  WarmUp warm_up = WarmUp::kNone;
  std::optional<std::int32_t> hardware_queues;
  double slo_factor = 0;
  RequestPath request_us;

  bool has_dispatcher() const { return submission == Submission::kDispatcher; }
  bool process_per_model() const { return processes == Processes::kPerModel; }
  bool thread_per_instance() const { return std::holds_alternative<PerInstance>(threads); }
  bool whole_jobs() const {
    const auto* whole = std::get_if<WholeUnit>(&unit);
    return whole && *whole == WholeUnit::kJob;
  }
  bool graphs() const { return launch == Launch::kGraph; }
  // Notifications of so many blocks make one message.
  std::int32_t notify_blocks() const {
    const auto* notes = std::get_if<BlockNotes>(&notify);
    return notes ? notes->blocks : 1;
  }
};

template <spec::Of<SystemSpec> Self>
void fields(Self& self, auto&& field) {
  field("submission", self.submission);
  field("streams", self.streams);
  field("notify", self.notify);
  field("processes", self.processes);
  field("sharing", self.sharing);
  field("threads", self.threads);
  field("kernels", self.kernels);
  field("policy", self.policy);
  field("admission", self.admission);
  field("unit", self.unit);
  field("launch", self.launch);
  field("estimates", self.estimates);
  field("warm_up", self.warm_up);
  field("hardware_queues", self.hardware_queues);
  field("slo_factor", self.slo_factor);
  field("request_us", self.request_us);
}

// Makes the policy of a dispatcher: the system's own, or one that somebody else brings.
using MakePolicy = std::function<std::unique_ptr<sched::Policy>()>;
// The system's own. Throws Error for a policy or an option that is not known.
MakePolicy policy_maker(const SystemSpec& system);

}  // namespace paella::engine
