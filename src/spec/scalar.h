// What a scalar means: YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2). So `yes`,
// `no`, `on`, `off`, `12:30` are text, 1e-3 and .5 are numbers, and quotes make anything text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "spec/node.h"

namespace loam::spec {

enum class ScalarType { text, integer, fraction, boolean };

// Requires a scalar.
ScalarType scalar_type(const Node& node);

// 12, -3, 0x1F, 0o17. None where it is no integer or beyond 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view text);
// An integer, 0.5, .5, 1e-3. None where it is none of these or not finite (.inf, 1e999).
std::optional<double> parse_number(std::string_view text);
// 010: ten here, eight in YAML 1.1.
bool has_leading_zero(std::string_view text);

// For a message: "nothing", "a map", "a list", "the text 'abc'", "the number 3", "the boolean
// true".
std::string found(const Node& node);

}  // namespace loam::spec
