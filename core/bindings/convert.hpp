#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "paella/error.hpp"

namespace paella::bindings {

namespace py = pybind11;

template <class T>
T get(const py::dict& dict, const char* key) {
  return dict[key].cast<T>();
}

}  // namespace paella::bindings
