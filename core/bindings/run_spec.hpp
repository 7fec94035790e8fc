#pragma once

#include "convert.hpp"
#include "paella/engine/simulate.hpp"

namespace paella::bindings {

// What paella.simulation.specification() makes.
engine::SimulationSpec simulation_spec(const py::dict& d);
engine::SystemSpec system_spec(const py::dict& d);
// Such a run calls into Python, and needs its lock.
bool has_python_policy(const py::dict& d);
py::dict jobs_dict(const record::Jobs& jobs);

}  // namespace paella::bindings
