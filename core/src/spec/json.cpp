#include "paella/spec/json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace paella::spec::detail {

Json parse_text(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    throw Error(std::string("specification: no JSON document: ") + e.what());
  }
}

void read(const Json& from, bool& to, const Path& path) {
  if (!from.is_boolean()) path.fail("expected true or false");
  to = from.get<bool>();
}

void read(const Json& from, std::string& to, const Path& path) {
  if (!from.is_string()) path.fail("expected text");
  to = from.get<std::string>();
}

double number(const Json& from, const Path& path) {
  if (!from.is_number()) path.fail("expected a number");
  return from.get<double>();
}

std::int64_t integer(const Json& from, std::int64_t least, std::uint64_t most, const Path& path) {
  if (!from.is_number_integer()) path.fail("expected a whole number");
  const bool fits = from.is_number_unsigned() ? from.get<std::uint64_t>() <= most
                                              : from.get<std::int64_t>() >= least;
  if (!fits) path.fail(from.dump() + " is out of range");
  return static_cast<std::int64_t>(from.get<std::uint64_t>());
}

// An option that is null is one that is not given.
void read(const Json& from, Choice& to, const Path& path) {
  if (!from.is_object() || !from.contains("name")) path.fail("expected a mapping with a name");
  to = {};
  for (const auto& [key, value] : from.items()) {
    if (key == "name") {
      read(value, to.name, Path(path, key));
    } else if (!value.is_null()) {
      to.options[key] = number(value, Path(path, key));
    }
  }
}

void read(const Json& from, std::vector<std::pair<double, double>>& to, const Path& path) {
  if (!from.is_object()) path.fail("expected a mapping of numbers");
  to.clear();
  for (const auto& [key, value] : from.items()) {
    double at = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), at);
    if (error != std::errc{} || end != key.data() + key.size() || !std::isfinite(at)) {
      path.fail(key + " is no number");
    }
    to.emplace_back(at, number(value, Path(path, key)));
  }
  std::sort(to.begin(), to.end());
}

Json json_of(const Choice& choice) {
  Json out(choice.options);
  out["name"] = choice.name;
  return out;
}

Json json_of(const std::vector<std::pair<double, double>>& pairs) { return Json(pairs); }

}  // namespace paella::spec::detail
