#include "paella/sched/admission.hpp"

namespace paella::sched {
namespace {

// A job is on the GPU while a unit of it is, and it has one unit there at a time.
class JobsAdmission : public Admission {
 public:
  explicit JobsAdmission(std::int64_t jobs) : free_(jobs) {}
  bool admits(const Demand&) const override { return free_ > 0; }
  void issued(std::int32_t, const Demand&) override { --free_; }
  void placed(std::int32_t, std::int64_t) override {}
  void finished(std::int32_t, std::int64_t) override {}
  void done(std::int32_t) override { ++free_; }

 private:
  std::int64_t free_;
};

}  // namespace

std::unique_ptr<Admission> make_jobs_admission(std::int64_t jobs) {
  return std::make_unique<JobsAdmission>(jobs);
}

}  // namespace paella::sched
