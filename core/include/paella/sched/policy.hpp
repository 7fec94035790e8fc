#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

// Policies decide which ready job goes next. They know nothing of GPUs or admission.
namespace paella::sched {

// A job whose next unit of work can be dispatched. A job has at most one such entry at a time.
struct Ready {
  std::int32_t job = 0;
  std::int32_t model = 0;  // small and dense: policies keep tables by model
  double remaining_us = 0;
  double due_us = 0;
  double total_us = 0;     // of the whole job, alone
  double deadline_us = 0;
};

// Entries of equal rank leave in the order in which they were pushed.
class Policy {
 public:
  virtual ~Policy() = default;
  virtual void push(const Ready& entry) = 0;
  // Takes the next job, which counts as one dispatch. Throws Error when nothing is waiting.
  virtual std::int32_t pop() = 0;
  // The job that pop() would take.
  virtual std::int32_t peek() const = 0;
  virtual std::size_t size() const = 0;
};

using Options = std::map<std::string, double>;

// Every option is a finite number that is not negative.
struct OptionInfo {
  std::string name;
  double default_value = 0;
  std::string summary;
};

struct PolicyInfo {
  std::string name;
  std::string summary;
  std::vector<OptionInfo> options;
  std::unique_ptr<Policy> (*make)(const Options& options);  // gets a value for every option
};

// One at namespace scope in a policy's file makes the policy known.
struct Registration {
  explicit Registration(PolicyInfo info);
};

// Sorted by name.
const std::vector<PolicyInfo>& policies();

// Throws Error for an unknown policy or option, or a value out of range.
std::unique_ptr<Policy> make_policy(const std::string& name, const Options& options = {});

}  // namespace paella::sched
