#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "paella/plan/model.hpp"
#include "paella/plan/occupancy.hpp"

namespace paella::sched {

// What a unit asks of the GPU: the blocks of its kernel, or of the largest of its kernels.
// A unit of copies asks for none.
struct Demand {
  plan::BlockShape shape;
  std::int64_t blocks = 0;
};

// How much may be on the GPU at once. The dispatcher asks for the policy's next unit only: what
// is not admitted holds up everything behind it (no backfill, paper section 5).
class Admission {
 public:
  virtual ~Admission() = default;
  virtual bool admits(const Demand& demand) const = 0;
  // The unit goes to the GPU now. `unit` is a small number, free again after done().
  virtual void issued(std::int32_t unit, const Demand& demand) = 0;
  // News from the GPU: blocks of the unit that have started, that have ended, and its end.
  virtual void placed(std::int32_t unit, std::int64_t blocks) = 0;
  virtual void finished(std::int32_t unit, std::int64_t blocks) = 0;
  virtual void done(std::int32_t unit) = 0;
  // Units issued though they did not fit.
  virtual std::int64_t extra() const { return 0; }
};

using AdmissionOptions = std::map<std::string, double>;

// Known names: none, jobs (jobs or sms_per_job), resources and per-sm (extra_kernels).
// Throws Error on an unknown name or option.
std::unique_ptr<Admission> make_admission(const std::string& name, const AdmissionOptions& options,
                                          const plan::SmLimits& sm);

struct AdmissionInfo {
  std::string name;
  std::string summary;
  AdmissionOptions options;  // with their defaults
};
const std::vector<AdmissionInfo>& admissions();

// One for each file.
std::unique_ptr<Admission> make_no_admission();
std::unique_ptr<Admission> make_jobs_admission(std::int64_t jobs);
std::unique_ptr<Admission> make_resources_admission(std::int64_t extra_kernels,
                                                    const plan::SmLimits& sm);
std::unique_ptr<Admission> make_per_sm_admission(std::int64_t extra_kernels,
                                                 const plan::SmLimits& sm);

}  // namespace paella::sched
