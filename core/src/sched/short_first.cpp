#include <algorithm>
#include <numeric>

#include "paella/sched/policy.hpp"
#include "paella/sched/queues.hpp"

namespace paella::sched {
namespace {

constexpr std::int64_t kReclassify = 64;  // arrivals; with fewer than that so far, every one
constexpr std::int64_t kHalve = 1024;     // arrivals after which the past counts half

// Two classes. The shortest models, as many as together bring at most `share` of the work, go first,
// least remaining time before all; the others follow in the order in which they were due.
//
// Least remaining time first over all models lowers the mean by putting many short jobs before few
// long ones. Nearly all of that comes from the shortest models, which bring most jobs and little
// work; going on to order the long ones by length gains the mean little, and makes the longest wait
// for the whole backlog. So they are served as they come. And because the short class brings no more
// than `share` of the work, it makes the others at most 1 / (1 - share) times as slow, on average,
// as if they were alone.
class ShortFirst : public Policy {
 public:
  explicit ShortFirst(double share) : share_(share) {}

  void push(const Ready& entry) override {
    const auto m = static_cast<std::size_t>(entry.model);
    while (m >= models_.size()) {
      by_length_.push_back(models_.size());
      models_.emplace_back();
    }
    if (entry.remaining_us >= entry.total_us) arrived(models_[m], entry.total_us);
    const bool is_short = models_[m].is_short;
    (is_short ? short_ : long_).push(
        {is_short ? entry.remaining_us : entry.due_us, pushes_++, entry.job});
  }
  std::int32_t pop() override { return (short_.empty() ? long_ : short_).pop(); }
  std::int32_t peek() const override { return (short_.empty() ? long_ : short_).top().job; }
  std::size_t size() const override { return short_.size() + long_.size(); }

 private:
  struct Model {
    double total_us = 0;  // of its last job
    double work_us = 0;   // of all that came
    bool is_short = false;
  };

  void arrived(Model& model, double total_us) {
    model.total_us = total_us;
    model.work_us += total_us;
    ++arrivals_;
    if (arrivals_ < kReclassify || arrivals_ % kReclassify == 0) classify();
    if (arrivals_ % kHalve == 0) {
      for (Model& each : models_) each.work_us /= 2;
    }
  }

  void classify() {
    double all = 0;
    for (const Model& model : models_) all += model.work_us;
    std::sort(by_length_.begin(), by_length_.end(), [this](std::size_t a, std::size_t b) {
      const double x = models_[a].total_us, y = models_[b].total_us;
      return x != y ? x < y : a < b;
    });
    double sum = 0;
    for (const std::size_t m : by_length_) {
      sum += models_[m].work_us;
      models_[m].is_short = models_[m].work_us > 0 && sum <= share_ * all;
    }
  }

  double share_;
  JobHeap short_, long_;
  std::vector<Model> models_;
  std::vector<std::size_t> by_length_;
  std::int64_t arrivals_ = 0;
  std::uint64_t pushes_ = 0;
};

const Registration registration{
    {"short-first",
     "the shortest models by least remaining time, then the others as they were due",
     {{"share", 0.5, "of all work, at most so much goes first"}},
     [](const Options& options) -> std::unique_ptr<Policy> {
       return std::make_unique<ShortFirst>(options.at("share"));
     }}};

}  // namespace
}  // namespace paella::sched
