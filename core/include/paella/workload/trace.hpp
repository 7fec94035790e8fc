#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace paella::workload {

// Which model is asked for when, in the order of the due times.
struct Trace {
  std::vector<std::int32_t> model;  // index into the mix
  std::vector<double> due_us;

  std::size_t size() const { return model.size(); }
};

// One line "model due_us" per job, as the published artifact writes them (%u %f).
std::string format_trace(const Trace& trace);

// Throws Error naming `name` and the line.
Trace parse_trace(std::string_view text, std::int32_t models, const std::string& name);

// The same arrivals, stretched from the first on until there is one job per iat_us, counted as
// jobs / (last due - first due).
// Throws Error when all jobs are due at once.
Trace rescaled(Trace trace, double iat_us);

}  // namespace paella::workload
