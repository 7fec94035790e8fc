#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "paella/engine/system.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"
#include "paella/record/jobs.hpp"
#include "paella/request/trace_client.hpp"
#include "paella/spec/fields.hpp"
#include "paella/workload/arrivals.hpp"

namespace paella::engine {

// Jobs as a list, in the order of their due times.
struct JobList {
  std::vector<std::int32_t> model;  // index in the run's models
  std::vector<TimeNs> due_ns;       // from the run's start
};

template <spec::Of<JobList> Self>
void fields(Self& self, auto&& field) {
  field("model", self.model);
  field("due_ns", self.due_ns);
}

// Everything that a run depends on: paella.specification.Specification.
struct RunSpec {
  gpu::DeviceSpec device;
  gpu::DeviceSpec reference;  // the device that the models' kernels were measured on
  std::vector<plan::Model> models;
  std::vector<std::int32_t> instances;  // of each model
  std::int64_t cap = 0;                 // jobs in flight; with a process per model, its instances
  SystemSpec system;
  // Either says which jobs there are; in a closed loop their due times do not count.
  std::optional<workload::Arrivals> arrivals;
  std::optional<JobList> jobs;
  std::optional<std::int32_t> clients;  // of a closed loop
  double think_us = 0;
  bool timeline = false;

  std::int64_t streams() const { return system.streams.count.value_or(static_cast<std::int32_t>(cap)); }
  // Of a process (CUDA_DEVICE_MAX_CONNECTIONS).
  std::int32_t hardware_queues() const;
};

template <spec::Of<RunSpec> Self>
void fields(Self& self, auto&& field) {
  field("device", self.device);
  field("reference", self.reference);
  field("models", self.models);
  field("instances", self.instances);
  field("cap", self.cap);
  field("system", self.system);
  field("arrivals", self.arrivals);
  field("jobs", self.jobs);
  field("clients", self.clients);
  field("think_us", self.think_us);
  field("timeline", self.timeline);
}

// Throws Error where the parts of a specification contradict each other.
void check(const RunSpec& spec);
// A row for each job; its times are those of its due time, 0 in a closed loop.
record::Jobs jobs_of(const RunSpec& spec);
// The one client of a run whose `jobs` all come to one server.
request::ClientSpec client_spec(const RunSpec& spec, std::size_t jobs);

}  // namespace paella::engine
