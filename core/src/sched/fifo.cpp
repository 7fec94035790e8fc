#include "paella/sched/policy.hpp"
#include "paella/sched/queues.hpp"

namespace paella::sched {
namespace {

class Fifo final : public Policy {
 public:
  void push(const Ready& entry) override { jobs_.push(entry.job); }
  std::int32_t pop() override { return jobs_.pop(); }
  std::int32_t peek() const override { return jobs_.front(); }
  std::size_t size() const override { return jobs_.size(); }

 private:
  Ring jobs_;
};

const Registration registration{
    {"fifo", "first ready, first served", {}, [](const Options&) -> std::unique_ptr<Policy> {
       return std::make_unique<Fifo>();
     }}};

}  // namespace
}  // namespace paella::sched
