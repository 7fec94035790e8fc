#include "paella/sched/by_key.hpp"

namespace paella::sched {
namespace {

const Registration registration{
    {"sjf", "shortest job first, by the time of the whole job", {},
     [](const Options&) -> std::unique_ptr<Policy> {
       const auto key = [](const Ready& entry) { return entry.total_us; };
       return std::make_unique<ByKey<decltype(key)>>(key);
     }}};

}  // namespace
}  // namespace paella::sched
