// One JSON value. Objects keep their keys sorted bytewise, so dump() is the canonical form that
// records are named by (DESIGN: "Canonical form"): UTF-8, no white space, minimal escapes.
//
// Trust: parse() takes bytes from outside. Depth, size and number range are limited; duplicate keys
// and invalid UTF-8 are errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace loam {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json, std::less<>>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(std::int64_t{value}) {}
  Json(unsigned value) : value_(std::int64_t{value}) {}
  Json(long value) : value_(std::int64_t{value}) {}
  Json(long long value) : value_(static_cast<std::int64_t>(value)) {}
  Json(unsigned long value) : value_(static_cast<std::int64_t>(value)) {}
  Json(unsigned long long value) : value_(static_cast<std::int64_t>(value)) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  // Json::object({{"a", 1}, {"b", "x"}})
  static Json object(std::initializer_list<std::pair<const std::string, Json>> members = {});
  static Json array(std::initializer_list<Json> items = {});
  static Json array_of(const std::vector<std::string>& strings);

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // Tolerant reads: the fallback where the type is another.
  bool as_bool(bool fallback = false) const;
  std::int64_t as_int(std::int64_t fallback = 0) const;
  double as_double(double fallback = 0) const;  // an integer too
  const std::string& as_string() const;         // "" where it is no string
  const Array& as_array() const;                // empty where it is none
  const Object& as_object() const;              // empty where it is none
  std::vector<std::string> as_strings() const;  // the string items of an array

  // A member by key, null (a static) where absent.
  const Json& operator[](std::string_view key) const;
  bool has(std::string_view key) const { return !(*this)[key].is_null(); }
  // Strict reads for decoders of messages; the error names the key.
  Result<std::string> string_at(std::string_view key) const;
  Result<std::int64_t> int_at(std::string_view key) const;
  Result<bool> bool_at(std::string_view key) const;

  // Turns null into an object or array as needed. An object or array of another type: assert.
  Json& set(std::string key, Json value);
  Json& push(Json value);
  void erase(std::string_view key);
  std::size_t size() const;
  bool operator==(const Json&) const = default;

  // Canonical; doubles as the shortest text that reads back (records use strings instead).
  std::string dump() const;
  std::string pretty() const;  // two spaces, for people

  static Result<Json> parse(std::string_view text);

 private:
  std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, Array, Object> value_;
};

inline constexpr std::size_t kJsonDepthMax = 64;
inline constexpr std::int64_t kJsonIntMax = (std::int64_t{1} << 53) - 1;

}  // namespace loam
