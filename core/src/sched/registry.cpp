#include <algorithm>
#include <cmath>
#include <utility>

#include "paella/error.hpp"
#include "paella/sched/policy.hpp"

namespace paella::sched {
namespace {

std::vector<PolicyInfo>& registry() {
  static std::vector<PolicyInfo> known;
  return known;
}

template <class Named>
std::string names(const std::vector<Named>& items) {
  std::string text;
  for (const Named& item : items) text += (text.empty() ? "" : ", ") + item.name;
  return text;
}

template <class Named>
const Named* find(const std::vector<Named>& items, const std::string& name) {
  const auto at = std::find_if(items.begin(), items.end(),
                               [&](const Named& item) { return item.name == name; });
  return at == items.end() ? nullptr : &*at;
}

}  // namespace

// Registrations run in the order of linking; sorting hides it.
Registration::Registration(PolicyInfo info) {
  auto& known = registry();
  const auto at = std::find_if(known.begin(), known.end(),
                               [&](const PolicyInfo& other) { return info.name < other.name; });
  known.insert(at, std::move(info));
}

const std::vector<PolicyInfo>& policies() { return registry(); }

std::unique_ptr<Policy> make_policy(const std::string& name, const Options& options) {
  const PolicyInfo* info = find(policies(), name);
  if (!info) throw Error("unknown policy '" + name + "', known are " + names(policies()));
  Options complete;
  for (const OptionInfo& option : info->options) complete[option.name] = option.default_value;
  for (const auto& [key, value] : options) {
    if (!find(info->options, key)) {
      const std::string known =
          info->options.empty() ? "it has none" : "it has " + names(info->options);
      throw Error("policy '" + name + "' has no option '" + key + "', " + known);
    }
    if (!std::isfinite(value) || value < 0) {
      throw Error("option '" + key + "' of policy '" + name +
                  "' must be a finite number that is not negative");
    }
    complete[key] = value;
  }
  return info->make(complete);
}

}  // namespace paella::sched
