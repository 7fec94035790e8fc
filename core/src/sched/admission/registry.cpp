#include <algorithm>
#include <cmath>

#include "paella/error.hpp"
#include "paella/sched/admission.hpp"

namespace paella::sched {

const std::vector<AdmissionInfo>& admissions() {
  static const std::vector<AdmissionInfo> all = {
      {"none", "everything goes to the GPU at once", {}},
      {"jobs", "at most so many jobs, or one for every so many SMs, have a unit on the GPU",
       {{"jobs", 32}, {"sms_per_job", 0}}},
      {"resources", "the paper's: a kernel must fit one pool of the whole GPU's resources",
       {{"extra_kernels", 2}}},
      {"per-sm", "a kernel's blocks must fit the SMs one by one", {{"extra_kernels", 0}}},
  };
  return all;
}

std::unique_ptr<Admission> make_admission(const std::string& name, const AdmissionOptions& options,
                                          const plan::SmLimits& sm) {
  for (const AdmissionInfo& info : admissions()) {
    if (info.name != name) continue;
    AdmissionOptions all = info.options;
    for (const auto& [key, value] : options) {
      if (!all.contains(key)) throw Error("admission " + name + " has no option " + key);
      const bool whole = std::isfinite(value) && value == std::floor(value) && value < 1e9;
      if (!whole || value < (key == "jobs" ? 1 : 0)) {
        throw Error("admission " + name + ": " + key + " must be a whole number from " +
                    (key == "jobs" ? "1" : "0") + " to 999999999");
      }
      all[key] = value;
    }
    const auto option = [&](const char* key) { return static_cast<std::int64_t>(all.at(key)); };
    if (name == "none") return make_no_admission();
    if (name == "jobs") {
      const std::int64_t sms = option("sms_per_job");
      return make_jobs_admission(
          sms > 0 ? std::max<std::int64_t>(1, sm.count / sms) : option("jobs"));
    }
    if (name == "resources") return make_resources_admission(option("extra_kernels"), sm);
    return make_per_sm_admission(option("extra_kernels"), sm);
  }
  throw Error("unknown admission " + name);
}

}  // namespace paella::sched
