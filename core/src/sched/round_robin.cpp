#include <vector>

#include "paella/sched/policy.hpp"
#include "paella/sched/queues.hpp"

namespace paella::sched {
namespace {

// Models with waiting jobs take turns; a model that had none joins behind the others.
class RoundRobin final : public Policy {
 public:
  void push(const Ready& entry) override {
    const auto model = static_cast<std::size_t>(entry.model);
    if (model >= jobs_.size()) jobs_.resize(model + 1);
    if (jobs_[model].empty()) turns_.push(entry.model);
    jobs_[model].push(entry.job);
    ++size_;
  }

  std::int32_t pop() override {
    const std::int32_t model = turns_.pop();
    Ring& jobs = jobs_[static_cast<std::size_t>(model)];
    const std::int32_t job = jobs.pop();
    if (!jobs.empty()) turns_.push(model);
    --size_;
    return job;
  }

  std::int32_t peek() const override {
    return jobs_[static_cast<std::size_t>(turns_.front())].front();
  }

  std::size_t size() const override { return size_; }

 private:
  std::vector<Ring> jobs_;  // by model
  Ring turns_;
  std::size_t size_ = 0;
};

const Registration registration{
    {"round-robin", "one job of each model in turn, a model's jobs in the order they became ready",
     {},
     [](const Options&) -> std::unique_ptr<Policy> { return std::make_unique<RoundRobin>(); }}};

}  // namespace
}  // namespace paella::sched
