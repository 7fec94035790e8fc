#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>

#include "paella/apps/server.hpp"
#include "paella/engine/run_spec.hpp"
#include "paella/plan/launch_plan.hpp"
#include "paella/plan/model.hpp"
#include "paella/spec/fields.hpp"

// Specifications cross the border as JSON text, which msgspec makes of the types in
// paella.specification: they are the schema, and have been checked.
namespace paella::bindings {

namespace py = pybind11;

engine::RunSpec run_spec(std::string_view text);
apps::ServerSpec server_spec(std::string_view text);
gpu::DeviceSpec device_spec(std::string_view text);
plan::SmLimits sm_limits(std::string_view text);
std::vector<plan::Model> models(std::string_view text);
plan::Model model(std::string_view text);
// Reads the plan's files.
plan::LaunchPlan launch_plan(std::string_view text);

// The system's policy, or the Python object that takes its place.
engine::MakePolicy policy_of(const engine::SystemSpec& system, const py::object& policy);

}  // namespace paella::bindings
