#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "paella/error.hpp"
#include "paella/spec/fields.hpp"

// Structs with a list of fields as JSON text. A key that the struct does not list is passed over:
// the Python types have descriptions that the engine does not need.
namespace paella::spec {

using Json = nlohmann::json;

namespace detail {

struct AnyField {
  template <class T>
  void operator()(std::string_view, T&, Role = Role::kInput) const {}
};
template <class T>
concept Listed = requires(T& value) { fields(value, AnyField{}); };
template <class T>
concept Named = std::is_enum_v<T> && requires(T value) { names(value); };
template <class T>
concept Number = std::integral<T> || std::floating_point<T>;

// Where in the document something is wrong.
class Path {
 public:
  Path() = default;
  Path(const Path& above, std::string_view step) : above_(&above), step_(step) {}
  std::string text() const {
    if (!above_) return std::string(step_);
    const std::string above = above_->text();
    return above.empty() ? std::string(step_) : above + "." + std::string(step_);
  }
  [[noreturn]] void fail(const std::string& what) const {
    const std::string at = text();
    throw Error(at.empty() ? "specification: " + what : "specification: " + at + ": " + what);
  }

 private:
  const Path* above_ = nullptr;
  std::string_view step_;
};

void read(const Json& from, bool& to, const Path& path);
void read(const Json& from, std::string& to, const Path& path);
void read(const Json& from, Choice& to, const Path& path);
// A mapping from numbers to numbers, sorted.
void read(const Json& from, std::vector<std::pair<double, double>>& to, const Path& path);
double number(const Json& from, const Path& path);
std::int64_t integer(const Json& from, std::int64_t least, std::uint64_t most, const Path& path);

Json json_of(const Choice& choice);
Json json_of(const std::vector<std::pair<double, double>>& pairs);

template <Number T>
  requires(!std::same_as<T, bool>)
void read(const Json& from, T& to, const Path& path) {
  if constexpr (std::floating_point<T>) {
    to = static_cast<T>(number(from, path));
  } else {
    using Limits = std::numeric_limits<T>;
    to = static_cast<T>(integer(from, static_cast<std::int64_t>(Limits::min()),
                                static_cast<std::uint64_t>(Limits::max()), path));
  }
}

template <Named T>
void read(const Json& from, T& to, const Path& path) {
  std::string text;
  read(from, text, path);
  const auto known = names(T{});
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i] == text) {
      to = static_cast<T>(i);
      return;
    }
  }
  path.fail("unknown value " + text);
}

template <Listed T>
void read(const Json& from, T& to, const Path& path);
template <class T>
void read(const Json& from, std::optional<T>& to, const Path& path);
template <class T>
void read(const Json& from, std::vector<T>& to, const Path& path);
template <class... Ts>
void read(const Json& from, std::variant<Ts...>& to, const Path& path);

template <Listed T>
void read(const Json& from, T& to, const Path& path) {
  if (!from.is_object()) path.fail("expected a mapping");
  fields(to, [&](std::string_view name, auto& member, Role = Role::kInput) {
    const auto found = from.find(name);
    if (found == from.end()) path.fail(std::string(name) + " is missing");
    read(*found, member, Path(path, name));
  });
}

template <class T>
void read(const Json& from, std::optional<T>& to, const Path& path) {
  if (from.is_null()) {
    to.reset();
  } else {
    read(from, to.emplace(), path);
  }
}

template <class T>
void read(const Json& from, std::vector<T>& to, const Path& path) {
  if (!from.is_array()) path.fail("expected a list");
  to.clear();
  to.reserve(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::string step = std::to_string(i);
    read(from[i], to.emplace_back(), Path(path, step));
  }
}

template <class T, std::size_t N>
void read(const Json& from, std::array<T, N>& to, const Path& path) {
  if (!from.is_array() || from.size() != N) path.fail("expected " + std::to_string(N) + " values");
  for (std::size_t i = 0; i < N; ++i) read(from[i], to[i], path);
}

// Whether JSON of this kind is read as a T.
template <class T>
bool suits(const Json& from) {
  if constexpr (Listed<T>) return from.is_object();
  if constexpr (Named<T> || std::same_as<T, std::string>) return from.is_string();
  if constexpr (Number<T>) return from.is_number();
  return false;
}

// The alternatives are told apart by the kind of JSON: text, a number or a mapping.
template <class... Ts>
void read(const Json& from, std::variant<Ts...>& to, const Path& path) {
  const bool found = ((suits<Ts>(from) && (read(from, to.template emplace<Ts>(), path), true)) || ...);
  if (!found) path.fail("a value of another kind is expected");
}

// ---- the other way

template <Number T>
Json json_of(const T& value) {
  return value;
}
inline Json json_of(const std::string& value) { return value; }
template <Named T>
Json json_of(const T& value) {
  return names(T{})[static_cast<std::size_t>(value)];
}
template <Listed T>
Json json_of(const T& value);
template <class T>
Json json_of(const std::optional<T>& value);
template <class T>
Json json_of(const std::vector<T>& values);
template <class... Ts>
Json json_of(const std::variant<Ts...>& value);

template <Listed T>
Json json_of(const T& value) {
  Json out = Json::object();
  fields(value, [&](std::string_view name, const auto& member, Role role = Role::kInput) {
    if (role == Role::kInput) out[std::string(name)] = json_of(member);
  });
  return out;
}
template <class T>
Json json_of(const std::optional<T>& value) {
  return value ? json_of(*value) : Json();
}
template <class T>
Json json_of(const std::vector<T>& values) {
  Json out = Json::array();
  for (const T& value : values) out.push_back(json_of(value));
  return out;
}
template <class T, std::size_t N>
Json json_of(const std::array<T, N>& values) {
  return values;
}
template <class... Ts>
Json json_of(const std::variant<Ts...>& value) {
  return std::visit([](const auto& one) { return json_of(one); }, value);
}

Json parse_text(std::string_view text);

}  // namespace detail

// Throws Error that names the key: what is missing, of another kind, or out of its type's range.
template <class T>
T parse(std::string_view text) {
  T value;
  detail::read(detail::parse_text(text), value, detail::Path());
  return value;
}

// The text of all inputs in it, always in the same order: two structs have the same text exactly if
// every field that a result depends on is equal.
template <class T>
std::string canonical(const T& value) {
  return detail::json_of(value).dump();
}

// The fields of a struct, and of those in it, by their dotted paths.
using Fields = std::vector<std::pair<std::string, Role>>;
template <class T>
void list_inner(std::type_identity<T>, Fields& out, const std::string& path, Role role);
template <class... Ts>
void list_inner(std::type_identity<std::variant<Ts...>>, Fields& out, const std::string& path,
                Role role);

template <class T>
void list_fields(Fields& out, const std::string& above = "",
                 Role role_above = Role::kInput) {
  T value;
  fields(value, [&](std::string_view name, auto& member, Role role = Role::kInput) {
    using Member = std::remove_cvref_t<decltype(member)>;
    const Role effective = role_above == Role::kDescription ? role_above : role;
    const std::string path = above.empty() ? std::string(name) : above + "." + std::string(name);
    out.emplace_back(path, effective);
    list_inner(std::type_identity<Member>{}, out, path, effective);
  });
}

template <class T>
void list_inner(std::type_identity<T>, Fields& out, const std::string& path, Role role) {
  if constexpr (detail::Listed<T>) {
    list_fields<T>(out, path, role);
  } else if constexpr (requires { typename T::value_type; }) {
    list_inner(std::type_identity<typename T::value_type>{}, out, path, role);
  }
}
template <class... Ts>
void list_inner(std::type_identity<std::variant<Ts...>>, Fields& out, const std::string& path,
                Role role) {
  (list_inner(std::type_identity<Ts>{}, out, path, role), ...);
}

}  // namespace paella::spec
