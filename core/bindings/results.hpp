#pragma once

#include <string_view>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "paella/engine/server.hpp"
#include "paella/record/jobs.hpp"
#include "paella/record/timeline.hpp"

// Results are objects of the types in paella.core_types.
namespace paella::bindings {

namespace py = pybind11;

template <class T>
py::array_t<T> array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <class Row, class T>
py::array_t<T> column(const std::vector<Row>& rows, T Row::*field) {
  py::array_t<T> out(static_cast<py::ssize_t>(rows.size()));
  auto view = out.template mutable_unchecked<1>();
  for (std::size_t i = 0; i < rows.size(); ++i) view(static_cast<py::ssize_t>(i)) = rows[i].*field;
  return out;
}

// An object of that type of paella.core_types.
py::object make(const char* type, const py::dict& fields);
py::dict job_columns(const record::Jobs& jobs);
py::dict timeline_columns(const record::Timeline& timeline);
py::dict server_counters(const engine::ServerCounters& counters);

}  // namespace paella::bindings
