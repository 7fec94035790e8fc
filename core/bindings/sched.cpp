#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "paella/error.hpp"
#include "paella/sched/policy.hpp"

namespace paella::bindings {
namespace {

namespace py = pybind11;

constexpr std::int32_t kMostModels = 1 << 20;  // policies keep tables by model

// What Python sees of a policy: the engine trusts its own entries, these are checked.
class CheckedPolicy {
 public:
  CheckedPolicy(std::string name, sched::Options options)
      : name_(std::move(name)),
        options_(std::move(options)),
        policy_(sched::make_policy(name_, options_)) {}

  void push(std::int32_t job, std::int32_t model, double remaining_us, double due_us,
            std::optional<double> total_us, std::optional<double> deadline_us) {
    if (model < 0 || model >= kMostModels) {
      throw Error("model is " + std::to_string(model) + ", it must be from 0 to " +
                  std::to_string(kMostModels - 1));
    }
    const double total = total_us.value_or(remaining_us);
    const double deadline = deadline_us.value_or(std::numeric_limits<double>::infinity());
    check_length("remaining_us", remaining_us);
    check_length("total_us", total);
    if (!std::isfinite(due_us)) throw Error("due_us must be a finite number");
    if (std::isnan(deadline)) throw Error("deadline_us must be a number");
    policy_->push({job, model, remaining_us, due_us, total, deadline});
  }

  std::int32_t pop() { return policy_->pop(); }
  std::int32_t peek() const { return policy_->peek(); }
  std::size_t size() const { return policy_->size(); }
  const std::string& name() const { return name_; }
  const sched::Options& options() const { return options_; }

 private:
  static void check_length(const char* what, double us) {
    if (!std::isfinite(us) || us < 0) {
      throw Error(std::string(what) + " must be a finite number that is not negative");
    }
  }

  std::string name_;
  sched::Options options_;  // those given
  std::unique_ptr<sched::Policy> policy_;
};

sched::Options options_from(const std::string& name, const py::kwargs& given) {
  sched::Options options;
  for (const auto& [key, value] : given) {
    const auto option = key.cast<std::string>();
    try {
      options[option] = value.cast<double>();
    } catch (const py::cast_error&) {
      throw Error("option '" + option + "' of policy '" + name + "' must be a number");
    }
  }
  return options;
}

py::list policy_list() {
  py::list list;
  for (const sched::PolicyInfo& info : sched::policies()) {
    py::list options;
    for (const sched::OptionInfo& option : info.options) {
      py::dict o;
      o["name"] = option.name;
      o["default"] = option.default_value;
      o["summary"] = option.summary;
      options.append(o);
    }
    py::dict d;
    d["name"] = info.name;
    d["summary"] = info.summary;
    d["options"] = options;
    list.append(d);
  }
  return list;
}

// A pop and a push in turn keep the number of waiting jobs; a job comes back with less to do, as
// after a kernel, until it is done and another one takes its place.
double nanoseconds_per_operation(const std::string& name, const sched::Options& options,
                                 std::int32_t waiting, std::int64_t operations) {
  if (waiting < 1 || operations < 2) {
    throw Error("a benchmark needs at least 1 waiting job and 2 operations");
  }
  constexpr std::int32_t models = 8;
  constexpr double kernel_us = 10;
  const auto policy = sched::make_policy(name, options);
  std::mt19937 random(1);
  double due_us = 0;
  std::vector<sched::Ready> jobs;
  for (std::int32_t job = 0; job < waiting; ++job) {
    const auto model = static_cast<std::int32_t>(random() % models);
    const double total_us = kernel_us * (20 + 20 * model + static_cast<double>(random() % 10));
    const double remaining_us = kernel_us * (1 + static_cast<double>(random() % 20));
    jobs.push_back({.job = job,
                    .model = model,
                    .remaining_us = remaining_us,
                    .due_us = due_us,
                    .total_us = total_us,
                    .deadline_us = due_us + 5 * total_us});
    policy->push(jobs.back());
    due_us += kernel_us;
  }
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i + 1 < operations; i += 2) {
    sched::Ready& job = jobs[static_cast<std::size_t>(policy->pop())];
    job.remaining_us -= kernel_us;
    if (job.remaining_us <= 0) {
      job.remaining_us = job.total_us;
      job.due_us = due_us;
      job.deadline_us = due_us + 5 * job.total_us;
    }
    due_us += kernel_us;
    policy->push(job);
  }
  const std::chrono::duration<double, std::nano> elapsed =
      std::chrono::steady_clock::now() - start;
  return elapsed.count() / static_cast<double>(operations / 2 * 2);
}

}  // namespace

void bind_sched(py::module_& m) {
  py::class_<CheckedPolicy>(m, "Policy",
                            "Decides which ready job is dispatched next. Any Python object with "
                            "the methods push, pop, peek and __len__ can take its place.")
      .def(py::init([](const std::string& name, const py::kwargs& options) {
             return CheckedPolicy(name, options_from(name, options));
           }),
           py::arg("name"), py::pos_only(), "A policy by its name, see policies().")
      .def("push", &CheckedPolicy::push, py::arg("job"), py::arg("model"), py::arg("remaining_us"),
           py::kw_only(), py::arg("due_us") = 0.0, py::arg("total_us") = py::none(),
           py::arg("deadline_us") = py::none(),
           "Adds a job that is ready. total_us is remaining_us and there is no deadline unless "
           "given.")
      .def("pop", &CheckedPolicy::pop, "Takes the next job; counts as one dispatch.")
      .def("peek", &CheckedPolicy::peek, "The job that pop() would take.")
      .def("__len__", &CheckedPolicy::size)
      .def_property_readonly("name", &CheckedPolicy::name)
      .def_property_readonly("options", &CheckedPolicy::options, "The options given by name.");
  m.def("policies", &policy_list, "Known policies with their options, sorted by name.");
  m.def("bench_policy", &nanoseconds_per_operation, py::arg("name"), py::arg("options"),
        py::arg("waiting"), py::arg("operations"), py::call_guard<py::gil_scoped_release>(),
        "Nanoseconds per push or pop with this many jobs waiting.");
}

}  // namespace paella::bindings
