#include <cmath>
#include <cstdint>
#include <vector>

#include "paella/sched/policy.hpp"
#include "paella/sched/queues.hpp"

namespace paella::sched {
namespace {

// What waits of one model.
struct Waiting {
  JobHeap jobs;
  std::int64_t level = 0;  // see Srpt
};

struct Shorter {
  const std::vector<Waiting>* models;
  bool operator()(std::int32_t a, std::int32_t b) const {
    return before((*models)[static_cast<std::size_t>(a)].jobs.top(),
                  (*models)[static_cast<std::size_t>(b)].jobs.top());
  }
};

struct FurtherBehind {
  const std::vector<Waiting>* models;
  bool operator()(std::int32_t a, std::int32_t b) const {
    const std::int64_t level_a = (*models)[static_cast<std::size_t>(a)].level;
    const std::int64_t level_b = (*models)[static_cast<std::size_t>(b)].level;
    return level_a != level_b ? level_a < level_b : Shorter{models}(a, b);
  }
};

// Shortest remaining time first, kept fair between models by deficit counters (the paper's policy).
//
// Every model with waiting jobs has a counter of how far it is behind its share. A dispatch adds
// 1/n to the counters of the n models that have waiting jobs and takes 1 from the dispatched one.
// While the largest counter is at least the threshold, that model goes first.
//
// What all counters gain is kept once, in common_: a counter is common_ - level, and a model that
// had nothing waiting starts level with the common value. So no operation is worse than O(log n),
// neither in jobs nor in models.
class Srpt final : public Policy {
 public:
  explicit Srpt(double threshold) : threshold_(std::ceil(threshold * kOne - 1e-6)) {}
  Srpt(const Srpt&) = delete;
  Srpt& operator=(const Srpt&) = delete;

  void push(const Ready& entry) override {
    const auto index = static_cast<std::size_t>(entry.model);
    if (index >= models_.size()) models_.resize(index + 1);
    Waiting& model = models_[index];
    if (model.jobs.empty()) model.level = common_;
    const Ranked ranked{entry.remaining_us, pushes_++, entry.job};
    const bool leads = model.jobs.empty() || before(ranked, model.jobs.top());
    model.jobs.push(ranked);
    ++size_;
    if (leads) reorder(entry.model);
  }

  std::int32_t pop() override {
    const std::int32_t index = next_model();
    Waiting& model = models_[static_cast<std::size_t>(index)];
    const std::int32_t job = model.jobs.pop();
    --size_;

    // The remainder goes into the next share, so that no part of a dispatch is lost.
    const auto sharing = static_cast<std::int64_t>(by_rank_.size());
    const std::int64_t shared = kOne + remainder_;
    common_ += shared / sharing;
    remainder_ = shared % sharing;
    model.level += kOne;

    if (model.jobs.empty()) {
      by_rank_.erase(index);
      by_deficit_.erase(index);
    } else {
      reorder(index);
    }
    return job;
  }

  std::int32_t peek() const override {
    return models_[static_cast<std::size_t>(next_model())].jobs.top().job;
  }

  std::size_t size() const override { return size_; }

 private:
  // Counters count in units of 1/lcm(1..16): the shares of up to 16 waiting models are exact, and
  // equal counters compare equal. They last for 1e13 dispatches.
  static constexpr std::int64_t kOne = 720'720;

  std::int32_t next_model() const {
    if (size_ == 0) nothing_waiting();
    const std::int32_t behind = by_deficit_.top();
    const std::int64_t deficit = common_ - models_[static_cast<std::size_t>(behind)].level;
    return static_cast<double>(deficit) >= threshold_ ? behind : by_rank_.top();
  }

  void reorder(std::int32_t model) {
    by_rank_.update(model);
    by_deficit_.update(model);
  }

  double threshold_;
  std::vector<Waiting> models_;  // by model
  ModelHeap<Shorter> by_rank_{Shorter{&models_}};
  ModelHeap<FurtherBehind> by_deficit_{FurtherBehind{&models_}};
  std::int64_t common_ = 0;
  std::int64_t remainder_ = 0;
  std::size_t size_ = 0;
  std::uint64_t pushes_ = 0;
};

const Registration registration{
    {"srpt",
     "shortest remaining time first, fair between models by deficit counters",
     {{"threshold", 1e6, "dispatches a model may be behind its share before it goes first"}},
     [](const Options& options) -> std::unique_ptr<Policy> {
       return std::make_unique<Srpt>(options.at("threshold"));
     }}};

}  // namespace
}  // namespace paella::sched
