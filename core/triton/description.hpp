#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "paella/gpu/cuda/launch_plan.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"

// What the models of a repository are executed on, and how: the file paella.txt beside them, which
// paella.triton.repository writes. A line is a word and what belongs to it, separated by spaces; a
// path is the rest of its line.
namespace paella::triton {

struct DescribedModel {
  plan::Model profile;             // for the simulated GPU
  gpu::cuda::LaunchPlan plan;      // for a real one; cubins and weights are paths
  std::vector<std::size_t> inputs, outputs;  // bytes
  int instances = 1;
};

struct Description {
  std::string execute;  // "empty": nothing is computed; "sim"; "cuda"
  bool graphs = false;  // a job is one graph
  int hardware_queues = 32;
  int gpu = 0;  // ordinal
  int partition_sms = 0;
  std::uint64_t seed = 1;
  std::string fail_model;  // for tests: its requests fail
  gpu::DeviceSpec device, reference;
  std::vector<DescribedModel> models;
};

// Throws Error with the line that is wrong.
Description read_description(const std::string& path);

}  // namespace paella::triton
