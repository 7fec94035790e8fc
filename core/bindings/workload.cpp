#include <cstdint>
#include <string>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "paella/workload/arrivals.hpp"
#include "paella/workload/trace.hpp"

namespace paella::bindings {
namespace {

namespace py = pybind11;
using workload::Trace;

// A read-only view that keeps its trace alive.
template <class T>
auto column(std::vector<T> Trace::*field) {
  return [field](const py::object& self) {
    const std::vector<T>& values = self.cast<const Trace&>().*field;
    py::array_t<T> view(static_cast<py::ssize_t>(values.size()), values.data(), self);
    view.attr("flags").attr("writeable") = false;
    return view;
  };
}

Trace arrivals(const std::vector<double>& proportions, const std::string& kind, double iat_us,
               double sigma, std::int64_t jobs, std::int64_t seed, bool rescale) {
  workload::Arrivals arrivals;
  arrivals.proportions = proportions;
  arrivals.process = workload::parse_process(kind);
  arrivals.iat_us = iat_us;
  arrivals.sigma = sigma;
  arrivals.jobs = jobs;
  arrivals.seed = seed;
  arrivals.rescale = rescale;
  return workload::generate(arrivals);
}

}  // namespace

void bind_workload(py::module_& m) {
  py::class_<Trace>(m, "Trace", "Which model is asked for when, in the order of the due times.")
      .def("__len__", &Trace::size)
      .def_property_readonly("model", column(&Trace::model), "Index into the mix, per job (int32).")
      .def_property_readonly("due_us", column(&Trace::due_us), "Due time in µs, per job (float64).")
      .def("lines", &workload::format_trace, "One line \"model due_us\" per job.")
      .def_static("parse", &workload::parse_trace, py::arg("text"), py::kw_only(),
                  py::arg("models"), py::arg("name") = "trace",
                  "Reads such lines; an error names `name` and the line.")
      .def("rescaled", &workload::rescaled, py::arg("iat_us"),
           "The same arrivals, stretched from the first on until there is one job per iat_us, "
           "counted as jobs / (last due - first due).");
  m.def("arrivals", &arrivals, py::arg("proportions"), py::kw_only(),
        py::arg("kind") = "lognormal", py::arg("iat_us") = 1000.0, py::arg("sigma") = 2.0,
        py::arg("jobs") = 3000, py::arg("seed") = 1, py::arg("rescale") = false,
        "The trace of an arrival process: lognormal (the published artifact's, bit for bit), "
        "exponential, or batch (all due at 0).");
}

}  // namespace paella::bindings
