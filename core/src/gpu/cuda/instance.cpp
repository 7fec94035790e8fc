#include "paella/gpu/cuda/instance.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include "paella/error.hpp"
#include "paella/gpu/drawn_input.hpp"

namespace paella::gpu::cuda {
namespace {

constexpr unsigned kSmemWithoutAsking = 48 * 1024;
constexpr int kPoison = 0xff;  // NaN as a float

OwnedModule load_module(const std::string& image, const std::string& what) {
  Module module = nullptr;
  driver().check(driver().module_load(&module, image.c_str()), what.c_str());
  return OwnedModule(module);
}

// The functions of a module by symbol, each allowed the shared memory that its launches ask for.
std::map<std::string, Function> functions(const LaunchPlan& plan, Module module) {
  const Driver& d = driver();
  std::map<std::string, Function> found;
  std::map<std::string, unsigned> smem;
  for (const Launch& launch : plan.launches) {
    Function& function = found[launch.symbol];
    if (!function) {
      const std::string doing = "looking for kernel " + launch.symbol + " of " + plan.name;
      d.check(d.module_function(&function, module, launch.symbol.c_str()), doing.c_str());
    }
    smem[launch.symbol] = std::max(smem[launch.symbol], launch.dynamic_smem);
  }
  for (const auto& [symbol, bytes] : smem) {
    if (bytes <= kSmemWithoutAsking) continue;
    const std::string doing = "asking for the shared memory of kernel " + symbol;
    d.check(d.function_attribute(found[symbol], kMaxDynamicSharedMemory, static_cast<int>(bytes)),
            doing.c_str());
  }
  return found;
}

// Tensors lie one behind the other in host memory, each at a multiple of this.
std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

std::size_t input_bytes(const LaunchPlan& plan) {
  std::size_t sum = 0;
  for (const std::size_t bytes : plan.inputs) sum += aligned(bytes);
  return sum;
}

std::size_t output_bytes(const LaunchPlan& plan) {
  std::size_t sum = 0;
  for (const Output& output : plan.outputs) sum += aligned(output.bytes);
  return sum;
}

// Memory that may be empty.
OwnedMemory memory_for(std::size_t bytes, const std::string& what) {
  Pointer at = 0;
  const std::string doing = "allocating " + std::to_string(bytes) + " bytes for " + what;
  driver().check(driver().memory_alloc(&at, std::max<std::size_t>(bytes, 1)), doing.c_str());
  return OwnedMemory(at);
}

}  // namespace

Function LoadedModel::Kernel::function(Kind kind) const {
  switch (kind) {
    case Kind::kPlain: return plain;
    case Kind::kInstrumented: return instrumented;
    case Kind::kChained: return chained;
  }
  return nullptr;
}

LoadedModel::LoadedModel(LaunchPlan of) : plan_(std::move(of)) {
  const LaunchPlan& plan = plan_;
  plain_ = load_module(plan.plain, "loading the kernels of " + plan.name);
  instrumented_ = load_module(plan.instrumented, "loading the instrumented kernels of " + plan.name);
  auto plain = functions(plan, plain_.get());
  auto instrumented = functions(plan, instrumented_.get());
  std::map<std::string, Function> chained;
  if (!plan.chained.empty()) {
    chained_ = load_module(plan.chained, "loading the chained kernels of " + plan.name);
    chained = functions(plan, chained_.get());
  }
  for (const Launch& launch : plan.launches) {
    kernels_.push_back(
        {plain[launch.symbol], instrumented[launch.symbol], chained[launch.symbol]});
  }
  weights_ = memory_for(plan.weights.size(), "the weights of " + plan.name);
  const OwnedStream stream = make_stream();
  const Driver& d = driver();
  const std::string doing = "copying the weights of " + plan.name;
  if (!plan.weights.empty()) {
    d.check(d.copy_in(weights_.get(), plan.weights.data(), plan.weights.size(), stream.get()),
            doing.c_str());
  }
  d.check(d.stream_synchronize(stream.get()), doing.c_str());
  for (std::string* large : {&plan_.weights, &plan_.plain, &plan_.instrumented, &plan_.chained}) {
    std::string().swap(*large);
  }
}

Instance::Instance(const LoadedModel& model, NoteRing& notes, std::int32_t slot,
                   std::uint64_t seed)
    : launches(NoteRing::load(&notes.words(slot).finished)),
      model_(model),
      slot_(slot),
      words_(&notes.words(slot)),
      slot_at_(notes.slot_at(slot)),
      words_at_(notes.words_at(slot)),
      position_at_(notes.position_at(slot)) {
  const LaunchPlan& plan = model.plan();
  const std::string what = "a job of " + plan.name;
  arena_ = memory_for(plan.arena_bytes, what);
  for (const std::size_t bytes : plan.inputs) inputs_.push_back(memory_for(bytes, what));
  for (const Output& output : plan.outputs) {
    const bool own = output.at.space == Space::kOutput;
    outputs_.push_back(own ? memory_for(output.bytes, what) : OwnedMemory());
  }
  host_input_ = std::make_unique<MappedMemory>(std::max<std::size_t>(input_bytes(plan), 1));
  host_output_ = std::make_unique<MappedMemory>(std::max<std::size_t>(output_bytes(plan), 1));
  auto* at = host_input_->as<unsigned char>();
  for (const std::size_t bytes : plan.inputs) {
    host_inputs_.emplace_back(at, bytes);
    at += aligned(bytes);
  }
  at = host_output_->as<unsigned char>();
  for (const Output& output : plan.outputs) {
    host_outputs_.emplace_back(at, output.bytes);
    at += aligned(output.bytes);
  }
  DrawnInput drawn(seed);
  for (const Bytes input : host_inputs_) drawn.draw(input);
  graphs_.resize(plan.launches.size() + 1);
  set_parameters();
}

void Instance::set_parameters() {
  const std::vector<Launch>& launches = model_.plan().launches;
  parameters_.resize(launches.size());
  for (std::size_t k = 0; k < launches.size(); ++k) {
    Parameters& p = parameters_[k];
    p.position = static_cast<std::uint32_t>(k) + 1;
    for (const Place& place : launches[k].args) p.values.push_back(address(place));
    for (Pointer& value : p.values) p.pointers.push_back(&value);
    p.chained = p.pointers;
    for (void* more : {static_cast<void*>(&slot_at_), static_cast<void*>(&words_at_),
                       static_cast<void*>(&level_)}) {
      p.pointers.push_back(more);
    }
    p.chained.push_back(&position_at_);
    p.chained.push_back(&p.position);
  }
}

Pointer Instance::address(const Place& place) const {
  switch (place.space) {
    case Space::kWeights: return model_.weights() + place.offset;
    case Space::kArena: return arena_.get() + place.offset;
    case Space::kInput: return inputs_.at(place.index).get() + place.offset;
    case Space::kOutput: return outputs_.at(place.index).get() + place.offset;
  }
  return 0;
}

void Instance::copy_in(Stream stream, const void* client) {
  const Driver& d = driver();
  const auto* from = client ? static_cast<const unsigned char*>(client)
                            : host_input_->as<unsigned char>();
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const std::size_t bytes = model_.plan().inputs[i];
    d.check(d.copy_in(inputs_[i].get(), from, bytes, stream), "copying an input");
    from += aligned(bytes);
  }
}

void Instance::copy_out(Stream stream, void* client) {
  const Driver& d = driver();
  auto* to = client ? static_cast<unsigned char*>(client) : host_output_->as<unsigned char>();
  for (const Output& output : model_.plan().outputs) {
    d.check(d.copy_out(to, address(output.at), output.bytes, stream), "copying an output");
    to += aligned(output.bytes);
  }
}

void Instance::launch(std::int32_t k, Kind kind, std::uint32_t level, Stream stream,
                      const Grid& grid) {
  const Driver& d = driver();
  const Launch& launch = model_.plan().launches[k];
  Parameters& parameters = parameters_[k];
  level_ = level;
  // The driver reads only as many parameters as the kernel has.
  void** values = (kind == Kind::kChained ? parameters.chained : parameters.pointers).data();
  const Result result =
      d.launch(model_.kernels()[k].function(kind), grid[0], grid[1], grid[2], launch.block[0],
               launch.block[1], launch.block[2], launch.dynamic_smem, stream, values, nullptr);
  if (result == kSuccess) return;
  const std::string doing = "launching kernel " + std::to_string(k) + " of " + model_.plan().name;
  d.check(result, doing.c_str());
}

void Instance::launch(std::int32_t k, Kind kind, std::uint32_t level, Stream stream) {
  launch(k, kind, level, stream, model_.plan().launches[k].grid);
}

Kind Instance::kind(std::int32_t k, Telling telling, bool last) const {
  if (telling == Telling::kAll || (last && telling != Telling::kNone)) return Kind::kInstrumented;
  const bool chained = telling == Telling::kChain && model_.plan().launches[k].in_chain;
  return chained ? Kind::kChained : Kind::kPlain;
}

void Instance::enqueue(const WorkUnit& unit, Telling telling, std::uint32_t level, Stream stream) {
  if (unit.copy_in) copy_in(stream, unit.input);
  for (std::int32_t k = unit.first_kernel; k < unit.last_kernel; ++k) {
    launch(k, kind(k, telling, k + 1 == unit.last_kernel), level, stream);
  }
  if (unit.copy_out) copy_out(stream, unit.output);
}

Instance::Executable* Instance::find(const WorkUnit& unit, Telling telling, std::uint32_t level) {
  for (Executable& e : graphs_[unit.first_kernel]) {
    if (e.last == unit.last_kernel && e.telling == telling && e.level == level &&
        e.copy_in == unit.copy_in && e.copy_out == unit.copy_out) {
      return &e;
    }
  }
  return nullptr;
}

void Instance::prepare_graph(WorkUnit unit, Telling telling, std::uint32_t level,
                             Stream capturing) {
  if (unit.of_client) unit.copy_in = unit.copy_out = false;
  if (unit.empty() || find(unit, telling, level)) return;
  OwnedGraphExec graph =
      capture_graph(capturing, [&] { enqueue(unit, telling, level, capturing); });
  graphs_[unit.first_kernel].push_back(
      {unit.last_kernel, telling, level, unit.copy_in, unit.copy_out, std::move(graph)});
}

void Instance::launch_graph(const WorkUnit& unit, Telling telling, std::uint32_t level,
                            Stream stream) {
  WorkUnit inside = unit;
  if (unit.of_client) inside.copy_in = inside.copy_out = false;
  if (unit.copy_in && !inside.copy_in) copy_in(stream, unit.input);
  if (!inside.empty()) {
    const Executable* executable = find(inside, telling, level);
    if (!executable) throw Error("a graph of " + model_.plan().name + " was not prepared");
    driver().check(driver().graph_launch(executable->graph.get(), stream), "launching a graph");
  }
  if (unit.copy_out && !inside.copy_out) copy_out(stream, unit.output);
}

void Instance::try_stream(Stream stream) {
  WorkUnit first;
  first.last_kernel = 1;
  enqueue(first, Telling::kNone, 0, stream);
}

void Instance::run_alone(Telling telling, Stream stream) {
  WorkUnit whole;
  whole.last_kernel = static_cast<std::int32_t>(model_.kernels().size());
  whole.copy_in = whole.copy_out = true;
  poison();
  enqueue(whole, telling, 1, stream);
  const std::string doing = "running " + model_.plan().name + " alone";
  driver().check(driver().stream_synchronize(stream), doing.c_str());
}

void Instance::make_reference(Stream stream) {
  run_alone(Telling::kNone, stream);
  const auto* output = host_output_->as<unsigned char>();
  reference_.assign(output, output + output_bytes(model_.plan()));
  run_alone(Telling::kAll, stream);
  launches += static_cast<std::uint32_t>(model_.kernels().size());
  if (!right()) {
    throw Error("the instrumented kernels of " + model_.plan().name +
                " compute something else than the plain ones");
  }
  poison();
}

void Instance::poison() {
  std::memset(host_output_->as<void>(), kPoison, output_bytes(model_.plan()));
}

void Instance::poison_memory(Stream stream) {
  const Driver& d = driver();
  const LaunchPlan& plan = model_.plan();
  const auto fill = [&](Pointer at, std::size_t bytes) {
    if (at && bytes) d.check(d.memory_set(at, kPoison, bytes, stream), "clearing memory");
  };
  fill(arena_.get(), plan.arena_bytes);
  for (std::size_t i = 0; i < outputs_.size(); ++i) fill(outputs_[i].get(), plan.outputs[i].bytes);
}

std::string Instance::outputs() const {
  std::string all;
  for (const Bytes output : host_outputs_) {
    const auto offset = output.data() - host_output_->as<unsigned char>();
    all.append(reference_.begin() + offset, reference_.begin() + offset + output.size());
  }
  return all;
}

bool Instance::right() const {
  return std::memcmp(host_output_->as<void>(), reference_.data(), reference_.size()) == 0;
}

}  // namespace paella::gpu::cuda
