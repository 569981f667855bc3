// What is not there as JSON's null.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/json.h"

namespace loam {

inline Json text_or_null(std::string text) { return text.empty() ? Json() : Json(std::move(text)); }
inline Json time_or_null(std::int64_t ms) { return ms == 0 ? Json() : Json(ms); }  // 0: never

}  // namespace loam
