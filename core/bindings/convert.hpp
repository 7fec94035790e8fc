#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "paella/error.hpp"
#include "paella/gpu/spec.hpp"
#include "paella/plan/model.hpp"
#include "paella/record/timeline.hpp"

// Specifications come as dictionaries with every key present: the typed and validated
// configuration is Python's (paella.config).
namespace paella::bindings {

namespace py = pybind11;

template <class T>
T get(const py::dict& dict, const char* key) {
  return dict[key].cast<T>();
}

template <class T>
T choice(const py::dict& dict, const char* key, std::initializer_list<std::pair<const char*, T>> of) {
  const auto name = get<std::string>(dict, key);
  for (const auto& [known, value] : of) {
    if (name == known) return value;
  }
  throw Error(std::string(key) + ": unknown value " + name);
}

plan::SmLimits sm_limits(const py::dict& d);
gpu::DeviceSpec device_spec(const py::dict& d);
std::vector<plan::Model> model_plans(const py::list& list);

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

py::dict timeline_dict(const record::Timeline& timeline);

}  // namespace paella::bindings
