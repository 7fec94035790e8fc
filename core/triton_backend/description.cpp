#include "description.hpp"

#include <fstream>
#include <iterator>

#include "paella/error.hpp"
#include "paella/spec/json.hpp"

namespace paella::triton {

Description read_description(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error("cannot read " + path + ", which describes the models");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  Description description;
  try {
    description = spec::parse<Description>(text);
  } catch (const Error& e) {
    throw Error(path + ": " + e.what());
  }
  const bool simulated = description.execute == Execute::kSim;
  if (simulated && !(description.device && description.reference)) {
    throw Error(path + ": a simulated GPU needs a device and its reference");
  }
  for (const DescribedModel& model : description.models) {
    if (simulated && !model.profile) throw Error(path + ": " + model.name + " has no profile");
    if (description.execute == Execute::kCuda && !model.plan) {
      throw Error(path + ": " + model.name + " has no launch plan");
    }
  }
  return description;
}

}  // namespace paella::triton
