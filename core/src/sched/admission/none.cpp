#include "paella/sched/admission.hpp"

namespace paella::sched {
namespace {

class NoAdmission : public Admission {
 public:
  bool admits(const Demand&) const override { return true; }
  void issued(std::int32_t, const Demand&) override {}
  void placed(std::int32_t, std::int64_t) override {}
  void finished(std::int32_t, std::int64_t) override {}
  void done(std::int32_t) override {}
};

}  // namespace

std::unique_ptr<Admission> make_no_admission() { return std::make_unique<NoAdmission>(); }

}  // namespace paella::sched
