#include <algorithm>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"
#include "spec/python_names.h"
#include "spec/scalar.h"

namespace loam::spec {
namespace {

constexpr IntegerRange kBatch{1, 1024};
constexpr DurationRange kBatchDelay{std::chrono::nanoseconds(0), std::chrono::seconds(10)};
constexpr IntegerRange kReplicas{1, 256};
constexpr std::string_view kReplicasExpected =
    "a number such as 2, or a map such as {min: 1, max: 4}";
constexpr std::string_view kHandler = "FILE.py:FUNCTION, such as serve.py:predict";
constexpr std::string_view kModel = "a model, or MODEL@VERSION such as digits@3";

// "; did you mean 'X'?", else what there is.
std::string did_you_mean(const std::string& wrong, const std::vector<std::string>& there) {
  constexpr std::size_t kListedMax = 5;
  if (const std::string near = nearest(wrong, there); !near.empty())
    return "; did you mean " + quoted(near) + "?";
  if (there.empty() || there.size() > kListedMax) return "";
  std::vector<std::string> names;
  for (const std::string& name : there) names.push_back(quoted(name));
  return "; there is " + join(names, ", ");
}

std::string missing_file(const Folder& folder, const std::string& path) {
  const std::string beside = path.substr(0, path.rfind('/') + 1);
  std::vector<std::string> scripts;
  for (const std::string& name : folder.files_beside(path))
    if (name.ends_with(".py")) scripts.push_back(beside + name);
  std::sort(scripts.begin(), scripts.end());
  return quoted(path) + ": no such file in the project" + did_you_mean(path, scripts);
}

// "" where the function may be there: what only shows when the file runs is the worker's to find.
std::string missing_function(const Folder& folder, const std::string& path,
                             const std::string& function) {
  const auto text = folder.read(path);
  if (!text) return "";
  const PythonNames names = python_names(*text);
  if (names.may_have(function)) return "";
  return quoted(path) + " defines no " + quoted(function) + " at its top level" +
         did_you_mean(function, names.defined);
}

void read_handler(const Value& value, Service& service) {
  const auto text = value.text(kHandler);
  if (!text) return;
  const auto colon = text->rfind(':');
  const std::string file = text->substr(0, colon);
  const std::string function = colon == std::string::npos ? "" : text->substr(colon + 1);
  if (!file.ends_with(".py") || file.size() < 4 || !is_identifier(function))
    return value.problem(quoted(*text) + " is no handler; expected " + std::string(kHandler));
  Node file_node = value.node();
  file_node.text = file;
  const Value file_value(value.reader(), file_node, value.key(), value.key_place());
  const auto path = read_project_path(file_value, kHandler);
  if (!path) return;
  const Folder* folder = value.reader().folder;
  if (folder != nullptr && !folder->has_file(*path))
    return value.problem(missing_file(*folder, *path));
  if (folder != nullptr)
    if (std::string wrong = missing_function(*folder, *path, function); !wrong.empty())
      return value.problem(std::move(wrong));
  service.handler_file = *path;
  service.handler_function = function;
}

std::optional<Reference> read_model(const Value& value, Service& service) {
  const auto text = value.text(kModel);
  if (!text) return {};
  const auto at = text->find('@');
  const std::string name = text->substr(0, at);
  if (std::string wrong = name_problem(name); !wrong.empty()) {
    value.problem(std::move(wrong));
    return {};
  }
  if (at != std::string::npos) {
    const std::string version = text->substr(at + 1);
    const bool digits = !version.empty() && version.size() <= 9 &&
                        version.find_first_not_of("0123456789") == std::string::npos;
    const auto number = digits ? parse_integer(version) : std::nullopt;
    if (!number || *number < 1 || version[0] == '0') {
      value.problem(quoted(version) + " is no version; expected a number from 1, such as " + name +
                    "@3");
      return {};
    }
    service.version = static_cast<int>(*number);
  }
  service.model = name;
  return Reference{name, value.place(), value.key()};
}

void read_batch(const Value& value, Service& service) {
  const Section section(value, {"max", "delay_max"}, "a map such as {max: 32, delay_max: 5ms}");
  if (const auto max = section.find("max"))
    service.batch_max =
        static_cast<std::uint32_t>(max->integer(kBatch).value_or(service.batch_max));
  if (const auto delay = section.find("delay_max"))
    service.batch_delay_max = delay->duration(kBatchDelay).value_or(service.batch_delay_max);
}

bool is_zero(const Value& value) {
  return value.is_scalar() && scalar_type(value.node()) == ScalarType::integer &&
         parse_integer(value.node().text) == 0;
}

void read_replicas_map(const Value& value, Replicas& replicas) {
  const Section section(value, {"min", "max"}, kReplicasExpected);
  if (const auto min = section.find("min")) {
    if (is_zero(*min))
      return min->problem(
          "0 is out of range; expected at least 1: one replica always runs, `loam "
          "down` ends the service");
    replicas.min = static_cast<int>(min->integer(kReplicas).value_or(replicas.min));
  }
  replicas.max = replicas.min;
  const auto max = section.need("max", "a whole number from 1 to 256");
  if (!max) return;
  replicas.max = static_cast<int>(max->integer(kReplicas).value_or(replicas.max));
  if (replicas.max < replicas.min)
    max->problem(std::to_string(replicas.max) + " is below min, which is " +
                 std::to_string(replicas.min) + "; expected at least that");
}

void read_replicas(const Value& value, Replicas& replicas) {
  if (value.is_map()) return read_replicas_map(value, replicas);
  if (!value.is_scalar()) return value.wrong_type(kReplicasExpected);
  replicas.min = replicas.max = static_cast<int>(value.integer(kReplicas).value_or(replicas.min));
}

std::optional<Reference> read_service_map(const Section& section, const std::string& default_model,
                                          Service& service) {
  std::optional<Reference> model;
  if (const auto item = section.find("model"))
    model = read_model(*item, service);
  else if (default_model.empty())
    section.need("model", kModel);
  else
    model = Reference{default_model, section.value().key_place(),
                      join_key(section.value().key(), "model")};
  if (const auto item = section.need("handler", kHandler)) read_handler(*item, service);
  if (const auto item = section.find("resources"))
    service.resources = read_resources(*item, Claimant::service);
  if (const auto item = section.find("network"))
    service.network = read_network(*item, service.network);
  if (const auto item = section.find("sandbox")) service.require = read_sandbox(*item);
  if (const auto item = section.find("batch")) read_batch(*item, service);
  if (const auto item = section.find("replicas")) read_replicas(*item, service.replicas);
  if (const auto item = section.find("priority")) service.priority = read_priority(*item);
  if (const auto item = section.find("env")) service.env = read_env(*item);
  return model;
}

}  // namespace

void read_service(Draft& draft, const std::string& name, const std::string& default_model,
                  const Value& value) {
  Service service;
  service.name = name;
  service.model = default_model;
  service.place = value.key_place();
  service.resources.place = value.key_place();
  service.env = draft.project.env;
  std::optional<Reference> model;
  if (value.is_text() && !default_model.empty()) {
    read_handler(value, service);
    model = Reference{default_model, value.key_place(), value.key()};
  } else {
    const Section section(
        value, {"model", "handler", "resources", "network", "sandbox", "batch", "replicas", "priority", "env"},
        default_model.empty() ? "a map with model, handler and more"
                              : "FILE.py:FUNCTION or a map with handler and more");
    if (value.is_map()) model = read_service_map(section, default_model, service);
  }
  draft.project.services.push_back(std::move(service));
  draft.service_keys.push_back(value.key());
  draft.models.push_back(std::move(model));
}

}  // namespace loam::spec
