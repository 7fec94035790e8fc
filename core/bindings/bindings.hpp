#pragma once

#include <pybind11/pybind11.h>

namespace paella::bindings {

void bind_sched(pybind11::module_& m);
void bind_workload(pybind11::module_& m);
void bind_specification(pybind11::module_& m);
void bind_engine(pybind11::module_& m);
void bind_sim_gpu(pybind11::module_& m);
void bind_cuda(pybind11::module_& m);
void bind_cuda_engine(pybind11::module_& m);
void bind_plan_runner(pybind11::module_& m);
void bind_ipc(pybind11::module_& m);
void bind_ipc_client(pybind11::module_& m);
void bind_live(pybind11::module_& m);
void bind_load(pybind11::module_& m);
void bind_triton(pybind11::module_& m);

}  // namespace paella::bindings
