#include "specification.hpp"

#include <memory>

#include "bindings.hpp"
#include "paella/spec/json.hpp"
#include "python_policy.hpp"

namespace paella::bindings {
namespace {

template <class T>
py::list listed() {
  std::vector<std::pair<std::string, spec::Role>> all;
  spec::list_fields<T>(all);
  py::list out;
  for (const auto& [path, role] : all) {
    out.append(py::make_tuple(path, role == spec::Role::kInput));
  }
  return out;
}

// What the engine reads of each type of paella.specification.
py::dict specification_fields() {
  py::dict out;
  out["Specification"] = listed<engine::RunSpec>();
  out["ServerSpecification"] = listed<apps::ServerSpec>();
  out["PlanFiles"] = listed<plan::PlanFiles>();
  return out;
}

}  // namespace

engine::RunSpec run_spec(std::string_view text) { return spec::parse<engine::RunSpec>(text); }
apps::ServerSpec server_spec(std::string_view text) { return spec::parse<apps::ServerSpec>(text); }
gpu::DeviceSpec device_spec(std::string_view text) { return spec::parse<gpu::DeviceSpec>(text); }
plan::SmLimits sm_limits(std::string_view text) { return spec::parse<plan::SmLimits>(text); }
std::vector<plan::Model> models(std::string_view text) {
  return spec::parse<std::vector<plan::Model>>(text);
}
plan::Model model(std::string_view text) { return spec::parse<plan::Model>(text); }
plan::LaunchPlan launch_plan(std::string_view text) {
  return plan::read_plan(spec::parse<plan::PlanFiles>(text));
}

engine::MakePolicy policy_of(const engine::SystemSpec& system, const py::object& policy) {
  if (policy.is_none()) return engine::policy_maker(system);
  return [policy] { return std::make_unique<PythonPolicy>(policy); };
}

void bind_specification(py::module_& m) {
  m.def("specification_fields", &specification_fields,
        "(dotted path, whether a result depends on it) of every field that the engine reads.");
  m.def(
      "canonical", [](std::string_view text) { return spec::canonical(run_spec(text)); },
      py::arg("specification"),
      "The same text exactly for specifications that the engine cannot tell apart.");
}

}  // namespace paella::bindings
