// `sweep:` of a step: lists of values and ranges, and the tasks that they make.
#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

constexpr std::string_view kValues =
    "a list of values such as [1e-3, 1e-2], or a range of whole numbers such as 1..5";

struct Range {
  std::int64_t first = 0, last = 0;
};

std::optional<Range> range_of(const std::string& text) {
  const auto dots = text.find("..");
  if (dots == std::string::npos) return {};
  const auto number = [](std::string_view digits) -> std::optional<std::int64_t> {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) return {};
    return value <= kJsonIntMax && value >= -kJsonIntMax ? std::optional(value) : std::nullopt;
  };
  const std::string_view view = text;
  const auto first = number(view.substr(0, dots)), last = number(view.substr(dots + 2));
  return first && last ? std::optional(Range{*first, *last}) : std::nullopt;
}

std::string too_many() {
  return "makes more than " + std::to_string(kTasksMax) +
         " tasks; leave out values, or make steps of it";
}

std::vector<Json> read_range(const Value& value) {
  const auto range = range_of(value.node().text);
  if (!range) {
    value.wrong_type(kValues);
    return {};
  }
  if (range->last < range->first)
    value.problem("ends before it begins; expected " + std::string(kValues));
  else if (range->last - range->first >= static_cast<std::int64_t>(kTasksMax))
    value.problem(too_many());
  else {
    std::vector<Json> values;
    for (std::int64_t i = range->first; i <= range->last; ++i) values.emplace_back(i);
    return values;
  }
  return {};
}

std::vector<Json> read_values(const Value& value) {
  if (value.is_scalar()) return read_range(value);
  std::vector<Json> values;
  for (const Value& item : value.items(kValues, Value::Items::maps)) {
    Json one = read_param(item);
    if (std::find(values.begin(), values.end(), one) != values.end())
      item.problem(quoted(one.dump()) + " is listed twice");
    values.push_back(std::move(one));
  }
  if (value.is_list() && value.node().items.empty())
    value.problem("is an empty list; expected " + std::string(kValues));
  return values;
}

std::size_t bytes_of(const Json& value) { return value.dump().size(); }

}  // namespace

std::vector<Swept> read_sweep(const Value& value, const Json& params) {
  std::vector<Swept> sweep;
  std::size_t tasks = 1, bytes = bytes_of(params);
  for (const NamedValue& member : value.members("a map such as {lr: [1e-3, 1e-2], seed: 1..5}")) {
    if (member.name.empty())
      value.reader().problem(member.value.key_place(), value.key(), "an empty name of a parameter");
    Swept swept{member.name, read_values(member.value)};
    if (swept.values.empty()) continue;  // said already
    std::size_t largest = 0;
    for (const Json& one : swept.values) largest = std::max(largest, bytes_of(one));
    bytes += bytes_of(Json(swept.name)) + largest + 2;
    tasks *= std::min(swept.values.size(), kTasksMax + 1);
    tasks = std::min(tasks, kTasksMax + 1);
    sweep.push_back(std::move(swept));
  }
  static constexpr std::string_view kVariable = "LOAM_PARAMS=";
  if (value.is_map() && value.node().members.empty())
    value.problem("is empty; expected a map such as {lr: [1e-3, 1e-2], seed: 1..5}");
  if (tasks > kTasksMax) value.problem(too_many());
  if (bytes + kVariable.size() > kArgumentBytesMax)
    value.problem("a task's parameters together are longer than the " +
                  std::to_string(kArgumentBytesMax) +
                  " bytes that Linux allows in a variable; put them in a file");
  return sweep;
}

std::vector<Json> task_params(const std::vector<Swept>& sweep) {
  std::vector<Json> tasks{Json::object()};
  for (const Swept& swept : sweep) {
    std::vector<Json> longer;
    for (const Json& task : tasks)
      for (const Json& value : swept.values) {
        longer.push_back(task);
        longer.back().set(swept.name, value);
      }
    tasks = std::move(longer);
  }
  return tasks;
}

std::string task_name(const std::string& step, std::size_t number) {
  return step + "." + std::to_string(number);
}

}  // namespace loam::spec
