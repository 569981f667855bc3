// `loam usage`: who has had how much of the machine.
#include <ctime>

#include <charconv>
#include <chrono>
#include <map>

#include "base/clock.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

// "7d" before now, or a day, "2026-11-01", from its first minute here.
Result<std::int64_t> parse_since(const std::string& text) {
  tm day{};
  if (text.size() == 10 && text[4] == '-') {
    const char* end = ::strptime(text.c_str(), "%Y-%m-%d", &day);
    day.tm_isdst = -1;
    const time_t seconds = ::mktime(&day);
    if (end != nullptr && *end == '\0' && seconds >= 0) return std::int64_t{seconds} * 1000;
  }
  const auto duration = parse_duration(text);
  if (!duration)
    return fail(ErrorCode::invalid, "--since '" + printable(text) +
                                        "': expected a duration such as 7d, or a day such as "
                                        "2026-11-01");
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(*duration).count();
  return std::max<std::int64_t>(wall_ms() - ms, 0);
}

// The same columns added up, for all that have the same key.
Json merged_by(const Json& usage, const std::string& key) {
  std::map<std::string, Json> merged;
  for (const Json& one : usage.as_array()) {
    const auto [found, is_new] = merged.emplace(one[key].as_string(), Json::object());
    Json& sum = found->second;
    sum.set(key, one[key]);
    sum.set("attempts", sum["attempts"].as_int() + one["attempts"].as_int());
    for (const char* column : {"cpu_hours", "memory_gib_hours", "points"})
      sum.set(column, sum[column].as_double() + one[column].as_double());
    Json devices = sum["device_hours"].is_object() ? sum["device_hours"] : Json::object();
    for (const auto& [kind, hours] : one["device_hours"].as_object())
      devices.set(kind, devices[kind].as_double() + hours.as_double());
    sum.set("device_hours", std::move(devices));
  }
  Json list = Json::array();
  for (auto& [name, sum] : merged) list.push(std::move(sum));
  return list;
}

std::string hours_text(double hours) {
  char text[32];
  const int length = std::snprintf(text, sizeof text, hours != 0 && hours < 0.1 ? "%.4f" : "%.1f", hours);
  return std::string(text, static_cast<std::size_t>(length));
}

void print_usage(Console& console, const Json& usage, const std::vector<std::string>& keys) {
  if (usage.size() == 0) return console.print("nobody has had anything of this machine since then");
  std::map<std::string, bool> kinds;
  for (const Json& one : usage.as_array())
    for (const auto& [kind, hours] : one["device_hours"].as_object()) kinds[kind] = true;
  Table table;
  for (const std::string& key : keys) table.head.push_back(key == "user" ? "USER" : "ACCOUNT");
  for (const char* head : {"CPU-HOURS", "GIB-HOURS"}) table.head.emplace_back(head);
  for (const auto& [kind, is] : kinds)
    table.head.push_back((kind == "gpu" ? "GPU" : kind) + "-HOURS");
  for (const char* head : {"ATTEMPTS", "POINTS"}) table.head.emplace_back(head);
  for (std::size_t i = keys.size(); i < table.head.size(); ++i) table.right.push_back(i);
  for (const Json& one : usage.as_array()) {
    std::vector<std::string> row;
    for (const std::string& key : keys) row.push_back(one[key].as_string());
    row.push_back(hours_text(one["cpu_hours"].as_double()));
    row.push_back(hours_text(one["memory_gib_hours"].as_double()));
    for (const auto& [kind, is] : kinds)
      row.push_back(hours_text(one["device_hours"][kind].as_double()));
    row.push_back(std::to_string(one["attempts"].as_int()));
    row.push_back(hours_text(one["points"].as_double()));
    table.rows.push_back(std::move(row));
  }
  console.print_text(format_table(table));
}

void print_store(Console& console, const Json& store) {
  if (store.size() == 0) return;
  Table table{{"USER", "STORE", "OF AT MOST"}, {}, {1, 2}};
  for (const Json& one : store.as_array())
    table.rows.push_back({one["user"].as_string(), format_bytes(one["bytes"]),
                          one["bytes_max"].is_null() ? "-" : format_bytes(one["bytes_max"])});
  console.print_text("\n" + format_table(table));
}

int show_usage(Context& context) {
  const std::string by = context.arguments.value("by");
  if (!by.empty() && by != "user" && by != "account")
    return report(context, {ErrorCode::invalid,
                            "--by '" + printable(by) + "': expected user or account"});
  std::string path = "/v1/usage";
  if (context.arguments.has("since")) {
    const auto since = parse_since(context.arguments.value("since"));
    if (!since) return report(context, since.error());
    path += "?since_ms=" + std::to_string(*since);
  }
  Answer answer = ask(context, "GET", path);
  if (answer.status != kExitOk) return answer.status;
  if (!by.empty()) answer.body.set("usage", merged_by(answer.body["usage"], by));
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  print_usage(context.console, answer.body["usage"],
              by.empty() ? std::vector<std::string>{"account", "user"}
                         : std::vector<std::string>{by});
  if (by != "account") print_store(context.console, answer.body["store"]);
  return kExitOk;
}

}  // namespace

Verb usage_verb() {
  Verb verb;
  verb.name = "usage";
  verb.summary = "who has had how much of the machine: CPU-hours, device-hours, and keeps how much";
  verb.options = {{"--by", "user|account", "one line for each"},
                  {"--since", "WHEN", "such as 7d, or 2026-11-01 (30d)"},
                  json_option()};
  verb.examples = "loam usage\nloam usage --by account --since 7d\nloam usage --json --since 2026-11-01";
  verb.run = show_usage;
  return verb;
}

}  // namespace loam::cli
