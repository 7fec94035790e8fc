#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "paella/time.hpp"

namespace paella::record {

// One row a job; times from the run's start, -1 where a thing has not happened.
struct Jobs {
  std::vector<std::int32_t> model;
  std::vector<TimeNs> due_ns, submitted_ns, started_ns, finished_ns;

  std::size_t size() const { return model.size(); }
  void add(std::int32_t of_model, TimeNs due) {
    model.push_back(of_model);
    due_ns.push_back(due);
    for (auto* column : {&submitted_ns, &started_ns, &finished_ns}) column->push_back(-1);
  }
};

}  // namespace paella::record
