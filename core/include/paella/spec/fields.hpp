#pragma once

#include <array>
#include <concepts>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>

// What crosses the border to Python is plain structs, each with one list of its fields beside it:
//
//   template <spec::Of<CopyRates> Self>
//   void fields(Self& self, auto&& field) {
//     field("latency_us", self.latency_us);
//   }
//
// Everything that reads or writes the struct goes by this list (spec/json.hpp). The names are those
// of the Python type, which is the schema: it says what a field means, its range and its default.
// An enumeration has `constexpr auto names(Enum)`, an array of its values' names in their order.
namespace paella::spec {

template <class Self, class Struct>
concept Of = std::same_as<std::remove_const_t<Self>, Struct>;

// How a field counts in a run's digest.
enum class Role {
  kInput,        // a result depends on it
  kDescription,  // it occurs in messages only
};

// Something chosen by name, with numbers as its options: in Python a mapping with a key `name`.
struct Choice {
  std::string name;
  std::map<std::string, double> options;
};

}  // namespace paella::spec
