#include <algorithm>
#include <memory>

#include "bindings.hpp"
#include "launch_plan.hpp"
#include "paella/engine/serve.hpp"
#include "paella/gpu/cuda/cuda_device.hpp"
#include "run_spec.hpp"

namespace paella::bindings {
namespace {

namespace cuda = gpu::cuda;

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto at = static_cast<std::size_t>(static_cast<double>(values.size()) * q);
  return values[std::min(at, values.size() - 1)];
}

// Owns a device until it fails: then nothing of it is touched again, because a GPU that hangs lets
// nobody free anything. The process has to end then.
class CudaEngine {
 public:
  CudaEngine(const py::list& plans, const py::dict& options) {
    std::vector<cuda::LaunchPlan> models;
    for (const py::handle plan : plans) models.push_back(launch_plan(plan.cast<py::dict>()));
    const cuda::CudaOptions wanted{get<int>(options, "device"), get<int>(options, "partition_sms"),
                                   get<std::vector<std::int32_t>>(options, "instances"),
                                   get<std::uint64_t>(options, "seed")};
    const py::gil_scoped_release release;
    device_ = std::make_unique<cuda::CudaDevice>(std::move(models), wanted);
    about_ = cuda::devices().at(wanted.ordinal);
    sms_ = device_->sms();
  }
  ~CudaEngine() { close(); }

  void close() { device_.reset(); }

  // Of every instance for its input, as its model gives them alone.
  std::vector<py::bytes> outputs() const {
    std::vector<py::bytes> all;
    for (const std::string& of : device().outputs()) all.emplace_back(of);
    return all;
  }

  py::dict info() const {
    py::dict dict;
    dict["dead"] = failed_;
    dict["name"] = about_.name;
    dict["compute_capability"] = about_.compute_capability;
    dict["driver_version"] = about_.driver_version;
    dict["sms"] = sms_;
    return dict;
  }

  py::dict run(const py::dict& d) {
    const engine::SimulationSpec spec = simulation_spec(d);
    engine::check_served(spec);  // what is wrong with it harms no device
    const engine::ServeOptions how{get<int>(d, "cpu"), get<int>(d, "watcher_cpu"),
                                   get<TimeNs>(d, "start_at_ns"), get<double>(d, "watchdog_s")};
    engine::ServeResult result;
    if (has_python_policy(d)) {
      result = serve(spec, how);
    } else {
      const py::gil_scoped_release release;
      result = serve(spec, how);
    }
    py::dict out = jobs_dict(result.jobs);
    py::dict counters;
    counters["dispatches"] = result.counters.dispatches;
    counters["extra_kernels"] = result.counters.extra_kernels;
    counters["host_cpu_us"] = result.counters.cpu_us;
    counters["elapsed_ns"] = result.elapsed_ns;
    counters["outputs_checked"] = result.outputs_checked;
    counters["loop_gap_max_us"] = static_cast<double>(result.longest_turn_ns) * 1e-3;
    counters["decision_ns_per_dispatch"] =
        static_cast<double>(result.own_ns) /
        static_cast<double>(std::max<std::int64_t>(result.counters.dispatches, 1));
    py::dict handoff;
    handoff["count"] = result.handoffs_us.size();
    handoff["p50"] = quantile(result.handoffs_us, 0.5);
    handoff["p99"] = quantile(result.handoffs_us, 0.99);
    counters["handoff_us"] = handoff;
    out["counters"] = counters;
    out["timeline"] = py::none();
    return out;
  }

 private:
  engine::ServeResult serve(const engine::SimulationSpec& spec, const engine::ServeOptions& how) {
    try {
      return engine::serve(spec, how, device());
    } catch (...) {
      failed_ = true;
      (void)device_.release();
      throw;
    }
  }
  cuda::CudaDevice& device() const {
    if (!device_) throw Error(failed_ ? "the GPU has failed in this process" : "the engine is closed");
    return *device_;
  }

  std::unique_ptr<cuda::CudaDevice> device_;
  cuda::DeviceInfo about_;
  int sms_ = 0;  // of the partition
  bool failed_ = false;
};

}  // namespace

void bind_cuda_engine(py::module_& m) {
  py::class_<CudaEngine>(m, "CudaEngine",
                         "Models loaded on a real GPU, and runs on it (paella.hardware).")
      .def(py::init<const py::list&, const py::dict&>(), py::arg("plans"), py::arg("options"))
      .def("run", &CudaEngine::run, py::arg("spec"))
      .def("outputs", &CudaEngine::outputs)
      .def("close", &CudaEngine::close)
      .def_property_readonly("info", &CudaEngine::info);
}

}  // namespace paella::bindings
