#include "spec/reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/leading_zero.h"
#include "base/text.h"
#include "spec/scalar.h"

namespace loam::spec {
namespace {

std::string format_number(double value) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), end.ptr};
}

constexpr std::array kProjectHomes{
    KeyHome{"cpus", "under resources:"},
    KeyHome{"memory", "under resources:"},
    KeyHome{"gpus", "under resources:"},
    KeyHome{"devices", "under resources:"},
    KeyHome{"pin", "under resources:"},
    KeyHome{"hugepages", "under resources:"},
    KeyHome{"time", "under resources: of a step"},
    KeyHome{"max", "under batch:"},
    KeyHome{"delay_max", "under batch:"},
    KeyHome{"base", "under env:"},
    KeyHome{"apt", "under env:"},
    KeyHome{"pip", "under env:"},
    KeyHome{"require", "under sandbox:"},
    KeyHome{"run", "in a step"},
    KeyHome{"params", "in a step"},
    KeyHome{"after", "in a step"},
    KeyHome{"retries", "in a step"},
    KeyHome{"retry_on", "in a step"},
    KeyHome{"checkpoint", "in a step"},
    KeyHome{"preemptible", "in a step"},
    KeyHome{"match", "under checkpoint:"},
    KeyHome{"resume", "under checkpoint:"},
    KeyHome{"grace", "under checkpoint:"},
    KeyHome{"scratch", "in a step"},
    KeyHome{"output", "in a step"},
    KeyHome{"code", "in a step"},
    KeyHome{"handler", "in a service"},
    KeyHome{"batch", "in a service"},
    KeyHome{"replicas", "in a service"},
    KeyHome{"model", "in a service"},
    KeyHome{"vars", "at the top of the file"},
    KeyHome{"mounts", "at the top of the file"},
    KeyHome{"secrets", "at the top of the file"},
    KeyHome{"data", "at the top of the file"},
    KeyHome{"endpoint", "at the top of the file"},
    KeyHome{"keep", "at the top of the file"},
    KeyHome{"account", "at the top of the file"},
};

std::string home_of(std::span<const KeyHome> homes, std::string_view key) {
  for (const KeyHome& home : homes)
    if (home.key == key) return "; it belongs " + std::string(home.where);
  return "";
}

// What other tools' files call it.
struct OtherName {
  std::string_view theirs, ours;
};
constexpr std::array kOtherNames{
    OtherName{"command", "run"},        OtherName{"cmd", "run"},
    OtherName{"depends_on", "after"},   OtherName{"needs", "after"},
    OtherName{"dependencies", "after"}, OtherName{"parameters", "params"},
    OtherName{"args", "params"},        OtherName{"mem", "memory"},
    OtherName{"timeout", "time"},       OtherName{"retry", "retries"},
    OtherName{"environment", "env"},    OtherName{"variables", "vars"},
    OtherName{"volumes", "mounts"},     OtherName{"packages", "apt"},
    OtherName{"requirements", "pip"},   OtherName{"port", "endpoint"},
    OtherName{"ports", "endpoint"},     OtherName{"jobs", "steps"},
    OtherName{"tasks", "steps"},
};

std::string near_key(const std::string& wrong, const std::vector<std::string>& keys) {
  for (const OtherName& other : kOtherNames)
    if (other.theirs == wrong && std::find(keys.begin(), keys.end(), other.ours) != keys.end())
      return std::string(other.ours);
  return nearest(wrong, keys);
}

// A key of another level with its letters in another order, or without its last one. More would
// find something for every word.
std::string near_home(std::span<const KeyHome> homes, std::string_view wrong) {
  const auto sorted = [](std::string_view text) {
    std::string letters(text);
    std::sort(letters.begin(), letters.end());
    return letters;
  };
  for (const KeyHome& home : homes)
    if (sorted(home.key) == sorted(wrong) ||
        (home.key.starts_with(wrong) && home.key.size() == wrong.size() + 1))
      return "; did you mean '" + std::string(home.key) + "'? It belongs " +
             std::string(home.where);
  return "";
}

// "2G" and "512M" are the usual slips.
std::string size_hint(std::string_view text) {
  static constexpr std::string_view kLetters = "kKMGT";
  std::string_view number = trim(text);
  while (!number.empty() &&
         std::string_view("0123456789.").find(number.back()) == std::string_view::npos)
    number.remove_suffix(1);
  const std::string_view unit = trim(trim(text).substr(number.size()));
  if (number.empty() || unit.empty()) return "";
  const char upper = unit[0] == 'k' || unit[0] == 'm' || unit[0] == 'g' || unit[0] == 't'
                         ? static_cast<char>(unit[0] - 32)
                         : unit[0];
  if (kLetters.find(upper) == std::string_view::npos) return "";
  const std::string guess = std::string(number) + upper + "iB";
  return parse_size(guess) ? "; did you mean '" + guess + "'?" : "";
}

}  // namespace

std::span<const KeyHome> project_key_homes() { return kProjectHomes; }

std::vector<Problem> Reader::in_file_order() {
  std::stable_sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
    return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
  });
  return std::move(problems);
}

std::string one_of(const std::vector<std::string>& choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) text += i + 1 == choices.size() ? " or " : ", ";
    text += quoted(choices[i]);
  }
  return text;
}

std::string did_you_mean(std::string_view wrong, const std::vector<std::string>& candidates) {
  const std::string near = nearest(wrong, candidates);
  return near.empty() ? "" : "; did you mean '" + near + "'?";
}

bool Value::is_text() const { return is_scalar() && scalar_type(*node_) == ScalarType::text; }

void Value::wrong_type(std::string_view expected) const {
  problem("expected " + std::string(expected) + ", found " + found(*node_));
}

std::optional<std::string> Value::text(std::string_view expected) const {
  if (!is_text()) {
    const bool mend = is_scalar();
    problem("expected " + std::string(expected) + ", found " + found(*node_) +
            (mend ? "; put it in quotes where it is meant as text" : ""));
    return {};
  }
  if (trim(node_->text).empty()) {
    problem("is empty; expected " + std::string(expected));
    return {};
  }
  return node_->text;
}

std::optional<std::string> Value::written(std::string_view expected) const {
  if (is_scalar()) return node_->text;
  wrong_type(expected);
  return {};
}

std::optional<std::int64_t> Value::integer(IntegerRange range) const {
  const std::string expected =
      "a whole number from " + std::to_string(range.min) + " to " + std::to_string(range.max);
  if (!is_scalar() || scalar_type(*node_) != ScalarType::integer) {
    wrong_type(expected);
    return {};
  }
  if (has_leading_zero(node_->text)) {
    problem(quoted(node_->text) + " could be read as octal; write it without the leading zero");
    return {};
  }
  const auto value = parse_integer(node_->text);
  if (!value || *value < range.min || *value > range.max) {
    problem(node_->text.substr(0, 40) + " is out of range; expected " + expected);
    return {};
  }
  return value;
}

std::optional<double> Value::number(NumberRange range) const {
  const std::string expected =
      "a number from " + format_number(range.min) + " to " + format_number(range.max);
  const bool numeric = is_scalar() && (scalar_type(*node_) == ScalarType::integer ||
                                       scalar_type(*node_) == ScalarType::fraction);
  if (!numeric) {
    wrong_type(expected);
    return {};
  }
  if (has_leading_zero(node_->text)) {
    problem(quoted(node_->text) + " could be read as octal; write it without the leading zero");
    return {};
  }
  const auto value = parse_number(node_->text);
  if (!value || *value < range.min || *value > range.max) {
    problem(node_->text.substr(0, 40) + " is out of range; expected " + expected);
    return {};
  }
  return value;
}

std::optional<bool> Value::boolean() const {
  if (is_scalar() && scalar_type(*node_) == ScalarType::boolean)
    return node_->text[0] == 't' || node_->text[0] == 'T';
  wrong_type("true or false");
  return {};
}

std::optional<std::uint64_t> Value::size_bytes(SizeRange range) const {
  static constexpr std::string_view kExpected = "a size such as 2GiB or 512MB";
  const bool right = is_scalar() && scalar_type(*node_) != ScalarType::boolean &&
                     scalar_type(*node_) != ScalarType::fraction;
  if (!right) {
    wrong_type(kExpected);
    return {};
  }
  if (leads_with_zero(node_->text)) {
    problem(leading_zero_problem(node_->text));
    return {};
  }
  const auto size = parse_size(node_->text);
  if (!size) {
    problem(quoted(node_->text) +
            " is no size; expected a number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB" +
            size_hint(node_->text));
    return {};
  }
  if (*size < range.min_bytes || *size > range.max_bytes) {
    const bool bare = scalar_type(*node_) == ScalarType::integer;
    problem(quoted(node_->text) + (bare ? " (bytes, as it has no unit)" : "") +
            " is out of range; expected a size from " + format_size(range.min_bytes) + " to " +
            format_size(range.max_bytes));
    return {};
  }
  return *size;
}

std::optional<std::chrono::nanoseconds> Value::duration(DurationRange range) const {
  static constexpr std::string_view kExpected = "a duration such as 30s, 5ms or 1h";
  if (!is_scalar() || scalar_type(*node_) == ScalarType::boolean) {
    wrong_type(kExpected);
    return {};
  }
  if (scalar_type(*node_) != ScalarType::text) {
    problem(quoted(node_->text) + " has no unit; expected " + std::string(kExpected) +
            "; did you mean '" + node_->text.substr(0, 20) + "s'?");
    return {};
  }
  if (leads_with_zero(node_->text)) {
    problem(leading_zero_problem(node_->text));
    return {};
  }
  const auto duration = parse_duration(node_->text);
  if (!duration) {
    problem(quoted(node_->text) +
            " is no duration; expected a number with us, ms, s, m, h or d, such as 30s");
    return {};
  }
  if (*duration < range.min || *duration > range.max) {
    problem(quoted(node_->text) + " is out of range; expected a duration from " +
            format_duration(range.min) + " to " + format_duration(range.max));
    return {};
  }
  return *duration;
}

std::optional<std::size_t> Value::choice(const std::vector<std::string>& choices) const {
  if (is_text()) {
    const auto at = std::find(choices.begin(), choices.end(), node_->text);
    if (at != choices.end()) return static_cast<std::size_t>(at - choices.begin());
    const std::string hint = did_you_mean(node_->text, choices);
    problem(quoted(node_->text) + " is not known here; expected " + one_of(choices) + hint);
    return {};
  }
  wrong_type(one_of(choices));
  return {};
}

std::vector<Value> Value::items(std::string_view expected, Items kind) const {
  std::vector<Value> values;
  if (!is_list()) {
    const bool mend =
        kind == Items::texts && is_text() && node_->text.size() < 40 && !node_->text.empty();
    problem("expected " + std::string(expected) + ", found " + found(*node_) +
            (mend ? "; write [" + node_->text + "]" : ""));
    return values;
  }
  for (const Node& item : node_->items)
    values.emplace_back(*reader_, item, join_index(key_, values.size()), item.place);
  return values;
}

std::vector<NamedValue> Value::members(std::string_view expected) const {
  std::vector<NamedValue> values;
  if (!is_map()) {
    wrong_type(expected);
    return values;
  }
  for (const Member& member : node_->members)
    values.push_back(
        {member.key, Value(*reader_, member.value, join_key(key_, member.key), member.place)});
  return values;
}

Section::Section(const Value& value, std::vector<std::string> keys, std::string_view expected)
    : value_(value) {
  if (!value.is_map()) {
    value.wrong_type(expected);
    return;
  }
  for (const Member& member : value.node().members)
    if (std::find(keys.begin(), keys.end(), member.key) == keys.end()) unknown_key(member, keys);
}

void Section::unknown_key(const Member& member, const std::vector<std::string>& keys) {
  std::string message = "unknown key";
  const std::string home = home_of(value_.reader().homes, member.key);
  const std::string near = near_key(member.key, keys);
  const bool one_letter_off = near.size() <= member.key.size() + 1 && near.starts_with(member.key);
  if (member.key == "<<") {
    merged_ = true;
    message +=
        "; merge keys are not part of YAML 1.2: write the keys out, or use an alias for a whole "
        "value";
  } else if (!near.empty() && (home.empty() || one_letter_off)) {
    meant_.push_back(near);
    message += "; did you mean '" + near + "'?";
  } else if (!home.empty()) {
    message += home;
  } else if (const std::string elsewhere = near_home(value_.reader().homes, member.key);
             !elsewhere.empty()) {
    message += elsewhere;
  } else {
    message += "; expected one of " + join(keys, ", ");
  }
  value_.reader().problem(member.place, join_key(value_.key(), member.key), std::move(message));
}

std::optional<Value> Section::find(std::string_view key) const {
  for (const Member& member : value_.node().members)
    if (member.key == key)
      return Value(value_.reader(), member.value, join_key(value_.key(), key), member.place);
  return {};
}

std::optional<Value> Section::need(std::string_view key, std::string_view expected) const {
  auto value = find(key);
  const bool meant = merged_ || std::find(meant_.begin(), meant_.end(), key) != meant_.end();
  if (!value && value_.is_map() && !meant)
    value_.reader().problem(value_.key_place(), join_key(value_.key(), key),
                            "is missing; expected " + std::string(expected));
  return value;
}

}  // namespace loam::spec
