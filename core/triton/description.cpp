#include "description.hpp"

#include <fstream>
#include <map>
#include <sstream>

#include "paella/error.hpp"

namespace paella::triton {
namespace {

// The rest of a line that is a path, or a name with spaces in it.
std::string rest(std::istringstream& line) {
  std::string text;
  std::getline(line >> std::ws, text);
  return text;
}

class Values {
 public:
  void set(const std::string& key, const std::string& value) { values_[key] = value; }
  const std::string& text(const std::string& key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) throw Error("it does not say " + key);
    return found->second;
  }
  double number(const std::string& key) const { return std::stod(text(key)); }
  int integer(const std::string& key) const { return static_cast<int>(number(key)); }
  // What begins with `prefix`, by the number behind it.
  std::map<int, double> numbered(const std::string& prefix) const {
    std::map<int, double> found;
    for (auto it = values_.lower_bound(prefix); it != values_.end(); ++it) {
      if (!it->first.starts_with(prefix)) break;
      found[std::stoi(it->first.substr(prefix.size()))] = std::stod(it->second);
    }
    return found;
  }

 private:
  std::map<std::string, std::string> values_;
};

gpu::DeviceSpec device_of(const Values& v, const std::string& at) {
  gpu::DeviceSpec device;
  const auto sm = [&](const char* key) { return v.integer(at + ".sm." + key); };
  device.sm = {sm("count"),      sm("threads"), sm("blocks"), sm("regs"),
               sm("smem_bytes"), sm("reserved_smem_bytes")};
  device.clock_scale = v.number(at + ".clock_scale");
  device.lanes_scale = v.number(at + ".lanes_scale");
  device.l2_bytes = v.number(at + ".l2_bytes");
  const auto gpu = [&](const char* key) { return v.number(at + ".gpu." + key); };
  gpu::GpuModel& g = device.gpu;
  g.saturation_warps = gpu("saturation_warps");
  g.light_weight = gpu("light_weight");
  g.cache_penalty = gpu("cache_penalty");
  g.ramp_us = gpu("ramp_us");
  g.stream_gap_us = gpu("stream_gap_us");
  g.graph_gap_us = gpu("graph_gap_us");
  g.contended_gap_us = gpu("contended_gap_us");
  g.graph_start_us = gpu("graph_start_us");
  g.launch_latency_us = gpu("launch_latency_us");
  g.notify_latency_us = gpu("notify_latency_us");
  g.message_us = gpu("message_us");
  g.query_latency_us = gpu("query_latency_us");
  g.callback_latency_us = gpu("callback_latency_us");
  g.notes_us = gpu("notes_us");
  g.notes_work_us = gpu("notes_work_us");
  g.time_slice_us = gpu("time_slice_us");
  g.resident_kernels = v.integer(at + ".resident_kernels");
  g.graph_queues = v.integer(at + ".gpu.graph_queues");
  const auto copy = [&](const char* key) { return v.number(at + ".copy." + key); };
  device.copy = {copy("h2d_bytes_per_us"), copy("d2h_bytes_per_us"), copy("latency_us")};
  const auto host = [&](const char* key) { return v.number(at + ".host." + key); };
  gpu::HostCosts& h = device.host;
  for (const auto& [queues, us] : v.numbered(at + ".host.issue_us.")) {
    h.issue_us.emplace_back(queues, us);
  }
  h.first_launch_us = host("first_launch_us");
  h.graph_issue_us = host("graph_issue_us");
  h.graph_kernel_us = host("graph_kernel_us");
  h.notify_issue_us = host("notify_issue_us");
  h.poll_us = host("poll_us");
  h.message_us = host("message_us");
  h.request_us = host("request_us");
  h.decision_us = host("decision_us");
  h.admission_us = host("admission_us");
  return device;
}

// Whether `word` begins a line of a model.
bool read_model_line(const std::string& word, std::istringstream& line, DescribedModel& model) {
  gpu::cuda::LaunchPlan& plan = model.plan;
  std::string space;
  std::size_t offset = 0, bytes = 0;
  if (word == "instances") {
    line >> model.instances;
  } else if (word == "memory") {
    line >> model.profile.weights_bytes >> model.profile.arena_bytes;
  } else if (word == "input") {
    line >> bytes;
    model.inputs.push_back(bytes);
    model.profile.input_bytes += static_cast<std::int64_t>(bytes);
  } else if (word == "output") {
    line >> bytes;
    model.outputs.push_back(bytes);
    model.profile.output_bytes += static_cast<std::int64_t>(bytes);
  } else if (word == "kernel") {
    plan::Kernel k;
    line >> k.blocks >> k.shape.threads >> k.shape.regs_per_thread >> k.shape.smem_bytes >>
        k.duration_ns >> k.load;
    k.name = rest(line);
    model.profile.kernels.push_back(std::move(k));
  } else if (word == "launch") {
    gpu::cuda::Launch l;
    for (unsigned& n : l.grid) line >> n;
    for (unsigned& n : l.block) line >> n;
    line >> l.dynamic_smem;
    l.symbol = rest(line);
    plan.launches.push_back(std::move(l));
  } else if (word == "argument") {
    line >> space >> offset;
    if (plan.launches.empty()) throw Error("an argument belongs to a launch");
    plan.launches.back().args.push_back(gpu::cuda::place_in(space, offset));
  } else if (word == "result") {
    line >> space >> offset >> bytes;
    plan.outputs.push_back({gpu::cuda::place_in(space, offset), bytes});
  } else if (word == "arena") {
    line >> plan.arena_bytes;
  } else if (word == "plain") {
    plan.plain = rest(line);
  } else if (word == "instrumented") {
    plan.instrumented = rest(line);
  } else if (word == "weights") {
    plan.weights = rest(line);
  } else {
    return false;
  }
  return true;
}

}  // namespace

Description read_description(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error("cannot read " + path + ", which describes the models");
  Description d;
  Values values;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    std::istringstream line(text);
    std::string word;
    line >> word;
    try {
      if (word == "model") {
        auto& model = d.models.emplace_back();
        model.profile.name = model.plan.name = rest(line);
      } else if (d.models.empty() || !read_model_line(word, line, d.models.back())) {
        values.set(word, rest(line));
        continue;
      }
      if (line.fail()) throw Error("a number is missing");
    } catch (const Error& e) {
      throw Error(path + ", line " + std::to_string(number) + ": " + e.what());
    }
  }
  try {
    d.execute = values.text("execute");
    d.fail_model = values.text("fail_model");
    d.seed = static_cast<std::uint64_t>(values.number("seed"));
    if (d.execute == "empty") return d;
    d.graphs = values.integer("graphs") != 0;
    d.hardware_queues = values.integer("hardware_queues");
    d.gpu = values.integer("gpu");
    d.partition_sms = values.integer("partition_sms");
    if (d.execute != "sim") return d;
    d.device = device_of(values, "device");
    d.reference = device_of(values, "reference");
    return d;
  } catch (const std::exception& e) {
    throw Error(path + ": " + e.what());
  }
}

}  // namespace paella::triton
