#include <algorithm>
#include <memory>
#include <numeric>

#include "bindings.hpp"
#include "paella/apps/measured_run.hpp"
#include "paella/error.hpp"
#include "paella/gpu/cuda/cuda_device.hpp"
#include "results.hpp"
#include "specification.hpp"

namespace paella::bindings {
namespace {

namespace cuda = gpu::cuda;

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto at = static_cast<std::size_t>(static_cast<double>(values.size()) * q);
  return values[std::min(at, values.size() - 1)];
}

py::object counters_of(const apps::MeasuredRun& run) {
  py::dict handoff;
  handoff["count"] = run.device.handoffs_us.size();
  handoff["p50"] = quantile(run.device.handoffs_us, 0.5);
  handoff["p99"] = quantile(run.device.handoffs_us, 0.99);
  py::dict counters = server_counters(run.counters);
  counters["elapsed_ns"] = run.elapsed_ns;
  counters["outputs_checked"] = run.device.outputs_checked;
  counters["loop_gap_max_us"] = to_us(run.longest_turn_ns);
  counters["decision_ns_per_dispatch"] =
      static_cast<double>(run.own_ns) /
      static_cast<double>(std::max<std::int64_t>(run.counters.dispatches, 1));
  counters["handoff_us"] = make("Handoff", handoff);
  return make("Counters", counters);
}

// Owns a device until it fails: then nothing of it is touched again, because a GPU that hangs lets
// nobody free anything. The process has to end then.
class CudaEngine {
 public:
  CudaEngine(const std::vector<std::string>& plans, const std::vector<std::int32_t>& instances,
             int gpu, int partition_sms, std::uint64_t seed, double watchdog_s) {
    if (plans.size() != instances.size()) {
      throw Error("a device needs models, and at least one instance of each");
    }
    cuda::CudaOptions options;
    options.ordinal = gpu;
    options.partition_sms = partition_sms;
    options.instances = std::accumulate(instances.begin(), instances.end(), 0);
    options.seed = seed;
    options.watchdog_s = watchdog_s;
    const py::gil_scoped_release release;
    device_ = std::make_unique<cuda::CudaDevice>(options);
    const auto here = device_->enter();
    for (std::size_t m = 0; m < plans.size(); ++m) {
      gpu::ModelSpec model;
      model.launch_plan = launch_plan(plans[m]);
      model.instances = instances[m];
      device_->install(static_cast<std::int32_t>(m), device_->load(std::move(model)));
    }
    about_ = cuda::devices().at(static_cast<std::size_t>(gpu));
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

  py::object info() const {
    py::dict info;
    info["dead"] = failed_;
    info["name"] = about_.name;
    info["compute_capability"] = about_.compute_capability;
    info["driver_version"] = about_.driver_version;
    info["sms"] = sms_;
    return make("EngineInfo", info);
  }

  py::object run(std::string_view text, int cpu, int watcher_cpu, TimeNs start_at_ns,
                 const py::object& policy) {
    const engine::RunSpec spec = run_spec(text);
    apps::check_measured(spec);  // what is wrong with it harms no device
    const engine::MakePolicy make_policy = policy_of(spec.system, policy);
    const apps::MeasuredOptions options{cpu, watcher_cpu, start_at_ns};
    apps::MeasuredRun run;
    if (policy.is_none()) {
      const py::gil_scoped_release release;
      run = measure(spec, make_policy, options);
    } else {
      run = measure(spec, make_policy, options);
    }
    py::dict result = job_columns(run.jobs);
    result["counters"] = counters_of(run);
    return make("EngineResult", result);
  }

 private:
  apps::MeasuredRun measure(const engine::RunSpec& spec, const engine::MakePolicy& make_policy,
                            const apps::MeasuredOptions& options) {
    try {
      return apps::measure(spec, make_policy, options, device());
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
      .def(py::init<const std::vector<std::string>&, const std::vector<std::int32_t>&, int, int,
                    std::uint64_t, double>(),
           py::arg("plans"), py::arg("instances"), py::kw_only(), py::arg("gpu") = 0,
           py::arg("partition_sms") = 0, py::arg("seed") = 1, py::arg("watchdog_s") = 10.0)
      .def("run", &CudaEngine::run, py::arg("specification"), py::kw_only(), py::arg("cpu") = -1,
           py::arg("watcher_cpu") = -1, py::arg("start_at_ns") = 0,
           py::arg("policy") = py::none())
      .def("outputs", &CudaEngine::outputs)
      .def("close", &CudaEngine::close)
      .def_property_readonly("info", &CudaEngine::info);
}

}  // namespace paella::bindings
