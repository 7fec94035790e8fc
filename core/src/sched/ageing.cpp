#include "paella/sched/by_key.hpp"

namespace paella::sched {
namespace {

// A job that became due one second later needs 1e6 * alpha µs less remaining work to go first. Both
// terms are fixed while an entry waits, so the order never has to be recomputed.
const Registration registration{
    {"ageing",
     "linear ageing between shortest remaining time and first due, first served",
     {{"alpha", 0.1, "microseconds of remaining work that one microsecond of age outweighs"}},
     [](const Options& options) -> std::unique_ptr<Policy> {
       const auto key = [alpha = options.at("alpha")](const Ready& entry) {
         return entry.remaining_us + alpha * entry.due_us;
       };
       return std::make_unique<ByKey<decltype(key)>>(key);
     }}};

}  // namespace
}  // namespace paella::sched
