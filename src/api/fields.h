// Single fields of messages: enumerators by name, integers within their type.
#pragma once

#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/result.h"

namespace loam::api {

template <class Enum, std::size_t kCount>
std::string_view name_of(const std::array<std::pair<Enum, std::string_view>, kCount>& names,
                         Enum value) {
  for (const auto& [candidate, name] : names)
    if (candidate == value) return name;
  LOAM_ASSERT(false && "an enumerator without a name");
  return {};
}

template <class Enum, std::size_t kCount>
Result<Enum> enum_at(const Json& document, std::string_view key,
                     const std::array<std::pair<Enum, std::string_view>, kCount>& names) {
  const std::string text = LOAM_TRY(document.string_at(key));
  for (const auto& [value, name] : names)
    if (name == text) return value;
  return fail(ErrorCode::invalid, std::string(key) + ": unknown value '" + text + "'");
}

// A JSON integer that fits the field; the error names the key.
template <class Integer>
Result<Integer> number_at(const Json& document, std::string_view key) {
  const std::int64_t value = LOAM_TRY(document.int_at(key));
  if (value < 0 || static_cast<std::uint64_t>(value) >
                       static_cast<std::uint64_t>(std::numeric_limits<Integer>::max()))
    return fail(ErrorCode::invalid, std::string(key) + ": out of range");
  return static_cast<Integer>(value);
}

}  // namespace loam::api
