#include "bindings.hpp"

#include "paella/error.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled serving engine.";
  // Loading the package first: its errors are the bases of ours.
  const auto error = pybind11::module_::import("paella.errors").attr("EngineError");
  pybind11::register_exception<paella::Error>(m, "Error", error);
  paella::bindings::bind_sched(m);
  paella::bindings::bind_workload(m);
  paella::bindings::bind_specification(m);
  paella::bindings::bind_engine(m);
  paella::bindings::bind_sim_gpu(m);
  paella::bindings::bind_cuda(m);
  paella::bindings::bind_cuda_engine(m);
  paella::bindings::bind_plan_runner(m);
  paella::bindings::bind_ipc(m);
  paella::bindings::bind_ipc_client(m);
  paella::bindings::bind_live(m);
  paella::bindings::bind_load(m);
  paella::bindings::bind_triton(m);
}
