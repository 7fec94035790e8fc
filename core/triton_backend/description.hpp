#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "paella/gpu/spec.hpp"
#include "paella/plan/launch_plan.hpp"
#include "paella/plan/model.hpp"
#include "paella/spec/fields.hpp"

// What the models of a repository are executed on, and how: the file paella.json beside them, which
// paella.triton.repository writes.
namespace paella::triton {

enum class Execute { kEmpty, kSim, kCuda };

constexpr auto names(Execute) { return std::array<std::string_view, 3>{"empty", "sim", "cuda"}; }

struct DescribedModel {
  std::string name;
  int instances = 1;
  std::vector<std::size_t> inputs, outputs;  // bytes
  std::optional<plan::Model> profile;        // for the simulated GPU
  std::optional<plan::PlanFiles> plan;       // for a real one
};

template <spec::Of<DescribedModel> Self>
void fields(Self& self, auto&& field) {
  field("name", self.name);
  field("instances", self.instances);
  field("inputs", self.inputs);
  field("outputs", self.outputs);
  field("profile", self.profile);
  field("plan", self.plan);
}

struct Description {
  Execute execute = Execute::kEmpty;
  bool graphs = false;  // a job is one graph
  int hardware_queues = 32;
  int gpu = 0;  // ordinal
  int partition_sms = 0;
  std::uint64_t seed = 1;
  std::optional<std::string> fail_model;  // for tests: its requests fail
  std::optional<gpu::DeviceSpec> device, reference;
  std::vector<DescribedModel> models;
};

template <spec::Of<Description> Self>
void fields(Self& self, auto&& field) {
  field("execute", self.execute);
  field("graphs", self.graphs);
  field("hardware_queues", self.hardware_queues);
  field("gpu", self.gpu);
  field("partition_sms", self.partition_sms);
  field("seed", self.seed);
  field("fail_model", self.fail_model);
  field("device", self.device);
  field("reference", self.reference);
  field("models", self.models);
}

// Throws Error with what is wrong in the file.
Description read_description(const std::string& path);

}  // namespace paella::triton
