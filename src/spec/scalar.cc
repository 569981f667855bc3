#include "spec/scalar.h"

#include <array>
#include <charconv>
#include <cmath>

namespace loam::spec {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t digits(std::string_view text) {
  std::size_t count = 0;
  while (count < text.size() && is_digit(text[count])) ++count;
  return count;
}

std::string_view without_sign(std::string_view text) {
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  return text;
}

bool only(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

bool is_based(std::string_view text) {
  return (text.starts_with("0x") && only(text.substr(2), "0123456789abcdefABCDEF")) ||
         (text.starts_with("0o") && only(text.substr(2), "01234567"));
}

bool is_integer(std::string_view text) {
  return is_based(text) || only(without_sign(text), "0123456789");
}

// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
bool is_fraction(std::string_view text) {
  std::string_view rest = without_sign(text);
  const std::size_t whole = digits(rest);
  rest.remove_prefix(whole);
  std::size_t after_point = 0;
  if (!rest.empty() && rest[0] == '.') {
    after_point = digits(rest.substr(1));
    rest.remove_prefix(1 + after_point);
  }
  if (whole == 0 && after_point == 0) return false;
  if (!rest.empty() && (rest[0] == 'e' || rest[0] == 'E'))
    return only(without_sign(rest.substr(1)), "0123456789");
  return rest.empty();
}

bool is_special_fraction(std::string_view text) {
  const std::string_view rest = without_sign(text);
  return rest == ".inf" || rest == ".Inf" || rest == ".INF" || text == ".nan" || text == ".NaN" ||
         text == ".NAN";
}

bool is_boolean(std::string_view text) {
  static constexpr std::array kBooleans{"true", "True", "TRUE", "false", "False", "FALSE"};
  for (const std::string_view candidate : kBooleans)
    if (text == candidate) return true;
  return false;
}

}  // namespace

ScalarType scalar_type(const Node& node) {
  if (node.quoted) return ScalarType::text;
  if (is_boolean(node.text)) return ScalarType::boolean;
  if (is_integer(node.text)) return ScalarType::integer;
  if (is_fraction(node.text) || is_special_fraction(node.text)) return ScalarType::fraction;
  return ScalarType::text;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  if (!is_integer(text)) return {};
  int base = 10;
  if (is_based(text)) {
    base = text[1] == 'x' ? 16 : 8;
    text.remove_prefix(2);
  } else if (text[0] == '+') {
    text.remove_prefix(1);
  }
  std::int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return {};
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  if (const auto integer = parse_integer(text)) return static_cast<double>(*integer);
  if (!is_fraction(text)) return {};
  if (text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec == std::errc::result_out_of_range || read.ptr != text.data() + text.size()) return {};
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

bool has_leading_zero(std::string_view text) {
  const std::string_view rest = without_sign(text);
  return rest.size() > 1 && rest[0] == '0' && is_digit(rest[1]) && is_integer(text);
}

std::string found(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::list:
      return "a list";
    case Node::Kind::map:
      return "a map";
    case Node::Kind::scalar:
      break;
  }
  switch (scalar_type(node)) {
    case ScalarType::boolean:
      return "the boolean " + node.text;
    case ScalarType::integer:
    case ScalarType::fraction:
      return "the number " + node.text.substr(0, 40);
    case ScalarType::text:
      break;
  }
  return "the text " + quoted(node.text);
}

}  // namespace loam::spec
