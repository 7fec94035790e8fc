#include "paella/sched/by_key.hpp"

namespace paella::sched {
namespace {

const Registration registration{
    {"edf", "earliest deadline first", {}, [](const Options&) -> std::unique_ptr<Policy> {
       const auto key = [](const Ready& entry) { return entry.deadline_us; };
       return std::make_unique<ByKey<decltype(key)>>(key);
     }}};

}  // namespace
}  // namespace paella::sched
