#include "cli/trace_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>

#include "base/clock.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr std::size_t kItemsShownMax = 16;  // of a list; the rest is counted

using Facts = std::vector<std::string>;

// The first member that is there.
const Json& first_of(const Json& record, std::initializer_list<std::string_view> keys) {
  static const Json null;
  for (const std::string_view key : keys)
    if (record.has(key)) return record[key];
  return null;
}

void add(Facts& facts, const std::string& label, const std::string& value) {
  if (!value.empty()) facts.push_back(label.empty() ? value : label + " " + value);
}

void add(Facts& facts, const std::string& label, const Json& value) {
  if (!value.is_null()) add(facts, label, plain_text(value));
}

std::string time_text(const Json& ms) { return ms.as_int() > 0 ? format_time(ms.as_int()) : ""; }

std::string micros(const Json& value) {
  return value.is_int() ? format_duration(std::chrono::microseconds(value.as_int())) : "";
}

// Fractions are strings in records, with all their digits; a person wants the first few.
std::string short_number(const Json& value) {
  constexpr std::size_t kDigitsShownMax = 8;
  const std::string text = plain_text(value);
  if (text.size() <= kDigitsShownMax || text.find('.') == std::string::npos) return text;
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  return *end == '\0' ? fmt::format("{:.4g}", number) : text;
}

// "lr=0.1 hidden=64", at most kItemsShownMax of them.
std::string pairs(const Json& object) {
  std::string text;
  std::size_t shown = 0;
  for (const auto& [name, value] : object.as_object()) {
    if (shown++ == kItemsShownMax) break;
    const Json& last = value.is_object() && value.has("last") ? value["last"] : value;
    text += (text.empty() ? "" : " ") + printable(name) + "=" + short_number(last);
  }
  if (object.size() > kItemsShownMax)
    text += " and " + std::to_string(object.size() - kItemsShownMax) + " more";
  return text;
}

std::string list_text(const Json& list) {
  std::vector<std::string> words;
  for (const Json& item : list.as_array())
    words.push_back(
        plain_text(item.is_object() ? first_of(item, {"name", "guard", "path"}) : item));
  const std::size_t count = words.size();
  if (count > kItemsShownMax) words.resize(kItemsShownMax);
  return join(words, ", ") + (count > kItemsShownMax ? ", …" : "");
}

std::string count_text(const Json& list, const std::string& word) {
  const std::size_t count = list.size();
  return count == 0 ? "" : std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}

// Host facts lie at the record's top or under "facts".
const Json& host_fact(const Json& record, std::string_view key) {
  return record.has(key) ? record[key] : record["facts"][key];
}

Facts request_facts(const Json& record) {
  Facts facts;
  add(facts, "", first_of(record, {"id", "request"}));
  add(facts, "at", time_text(record["time_ms"]));
  add(facts, "status", record["status"]);
  add(facts, "rows", record["rows"]);
  add(facts, "in a batch of", record["batch_rows"]);
  add(facts, "waited", micros(record["queue_us"]));
  add(facts, "computed", micros(record["compute_us"]));
  return facts;
}

Facts replica_facts(const Json& record) {
  Facts facts;
  add(facts, "service", record["service"]);
  add(facts, "attempt", record["attempt"]);
  add(facts, "handler", record["handler"]);
  add(facts, "since", time_text(record["started_ms"]));
  add(facts, "without", list_text(record["missing_guards"]));
  return facts;
}

Facts model_facts(const Json& record) {
  Facts facts;
  const Json& name = first_of(record, {"model", "name"});
  const Json& version = first_of(record, {"model_version", "number"});
  const Json& number = version.is_null() ? record["version"] : version;
  add(facts, "", plain_text(name) + "@" + plain_text(number));
  add(facts, "", format_bytes(record["size_bytes"]));
  add(facts, "made", time_text(record["created_ms"]));
  add(facts, "tree", short_digest(record["tree"].as_string()));
  if (!record["imported_from"].as_string().empty())
    add(facts, "imported from", record["imported_from"]);
  return facts;
}

Facts run_facts(const Json& record) {
  Facts facts;
  const std::string step = plain_text(record["step"]);
  add(facts, "", plain_text(record["run"]) + "/" + step);
  add(facts, "", record["outcome"]);
  if (record["attempt"].as_int() > 1) add(facts, "attempt", record["attempt"]);
  if (record["checkpoint"].is_string()) add(facts, "from", record["checkpoint"]);
  if (const auto duration = duration_of(record); !duration.empty()) add(facts, "in", duration);
  add(facts, "at", time_text(record["started_ms"]));
  add(facts, "by", record["user"]);
  add(facts, "command", record["command"]);
  add(facts, "params", pairs(record["params"]));
  add(facts, "metrics", pairs(record["metrics"]));
  add(facts, "vars", pairs(record["vars"]));
  add(facts, "secrets (names)", list_text(record["secrets"]));
  add(facts, "without", list_text(record["missing_guards"]));
  return facts;
}

Facts env_facts(const Json& record) {
  const Json& section = first_of(record, {"lock", "section", "lock_section"});
  const Json& lock = section.is_null() ? record : section;
  Facts facts;
  add(facts, "", lock["base"]);
  add(facts, "", lock["platform"]);
  add(facts, "", count_text(lock["debs"], "Debian package"));
  add(facts, "", count_text(lock["wheels"], "wheel"));
  add(facts, "tree", short_digest(record["tree"].as_string()));
  return facts;
}

Facts code_facts(const Json& record) {
  Facts facts;
  add(facts, "files", record["files"]);
  add(facts, "", format_bytes(record["size_bytes"]));
  add(facts, "tree", short_digest(record["tree"].as_string()));
  return facts;
}

Facts data_facts(const Json& record) {
  const Json& print = record["fingerprint"].is_object() ? record["fingerprint"] : record;
  Facts facts;
  add(facts, "", record["name"]);
  add(facts, "", count_text(print["files"], "file"));
  if (print["files"].is_int()) add(facts, "files", print["files"]);
  add(facts, "fingerprint", print["mode"]);
  add(facts, "", short_digest(print["digest"].as_string()));
  return facts;
}

Facts host_facts(const Json& record) {
  Facts facts;
  add(facts, "", host_fact(record, "distribution")["name"]);
  add(facts, "", host_fact(record, "cpu")["model"]);
  add(facts, "memory", format_bytes(host_fact(record, "memory")["total_bytes"]));
  add(facts, "cgroups", host_fact(record, "cgroup_mode"));
  return facts;
}

std::string guards_text(const Json& guards, bool present) {
  Json names = Json::array();
  for (const Json& guard : guards.as_array())
    if (guard["present"].as_bool() == present) names.push(guard["name"]);
  return list_text(names);
}

Facts kernel_facts(const Json& record) {
  const Json& nested = host_fact(record, "kernel");
  const Json& kernel = nested.is_object() ? nested : record;
  Facts facts;
  add(facts, "Linux", kernel["release"]);
  add(facts, "", kernel["machine"]);
  add(facts, "config",
      short_digest(kernel["config"].is_object() ? kernel["config"]["sha256"].as_string()
                                                : kernel["config"].as_string()));
  const Json& modules = host_fact(record, "modules");
  add(facts, "", count_text(modules.is_array() ? modules : modules["loaded"], "module"));
  if (modules["count"].is_int()) add(facts, "modules", modules["count"]);
  add(facts, "security", kernel["lsm"]);
  const Json& accelerators = host_fact(record, "accelerators");
  if (accelerators.size() > 0) add(facts, "", count_text(accelerators, "accelerator"));
  add(facts, "guards", guards_text(record["guards"], true));
  add(facts, "missing", guards_text(record["guards"], false));
  return facts;
}

const std::map<std::string, Facts (*)(const Json&)>& writers() {
  static const std::map<std::string, Facts (*)(const Json&)> table{
      {"request", request_facts}, {"replica", replica_facts}, {"model", model_facts},
      {"run", run_facts},         {"env", env_facts},         {"code", code_facts},
      {"data", data_facts},       {"host", host_facts},       {"kernel", kernel_facts}};
  return table;
}

// Facts that stand on a line of their own.
bool is_long(const std::string& fact) {
  for (const char* start : {"command ", "params ", "metrics ", "vars ", "secrets ", "guards ",
                            "missing ", "without ", "tree "})
    if (fact.starts_with(start)) return fact.starts_with("tree ") ? false : true;
  return false;
}

void add_layer(std::vector<TraceLine>& lines, const Json& layer) {
  const std::string& kind = layer["kind"].as_string();
  const auto writer = writers().find(kind);
  const Facts facts = writer == writers().end() ? Facts{} : writer->second(layer["record"]);
  TraceLine first{printable(kind), short_digest(layer["digest"].as_string()), ""};
  std::vector<TraceLine> more;
  for (const std::string& fact : facts) {
    if (is_long(fact))
      more.push_back({"", "", fact});
    else
      first.text += (first.text.empty() ? "" : " · ") + fact;
  }
  lines.push_back(std::move(first));
  lines.insert(lines.end(), more.begin(), more.end());
}

}  // namespace

std::vector<TraceLine> trace_lines(const Json& trace) {
  std::vector<TraceLine> lines;
  bool has_kernel = false;
  for (const Json& layer : trace["layers"].as_array()) {
    if (layer["kind"].as_string() == "request" && !lines.empty()) continue;
    add_layer(lines, layer);
    has_kernel = has_kernel || layer["kind"].as_string() == "kernel";
  }
  // The host's record holds the kernel's facts, too.
  for (const Json& layer : trace["layers"].as_array())
    if (!has_kernel && layer["kind"].as_string() == "host")
      add_layer(lines, Json::object({{"kind", "kernel"}, {"record", layer["record"]}}));
  const bool has_request = std::any_of(
      lines.begin(), lines.end(), [](const TraceLine& line) { return line.kind == "request"; });
  if (trace["request"].is_object() && !has_request) {
    std::vector<TraceLine> top;
    add_layer(top, Json::object({{"kind", "request"}, {"record", trace["request"]}}));
    lines.insert(lines.begin(), top.begin(), top.end());
  }
  return lines;
}

std::string format_trace(const std::vector<TraceLine>& lines) {
  std::size_t kinds = 0;
  std::size_t digests = 0;
  for (const TraceLine& line : lines) {
    kinds = std::max(kinds, width_of(line.kind));
    digests = std::max(digests, width_of(line.digest));
  }
  std::string text;
  for (const TraceLine& line : lines) {
    std::string row = line.kind + std::string(kinds - width_of(line.kind) + 2, ' ') + line.digest +
                      std::string(digests - width_of(line.digest) + 2, ' ') + line.text;
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

}  // namespace loam::cli
