#include "api/attempt.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

namespace loam::api {
namespace {

template <class Enum, std::size_t kCount>
std::string_view name_of(const std::array<std::pair<Enum, std::string_view>, kCount>& names,
                         Enum value) {
  for (const auto& [candidate, name] : names)
    if (candidate == value) return name;
  LOAM_ASSERT(!"an enumerator without a name");
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

constexpr std::array<std::pair<Network, std::string_view>, 2> kNetworks{
    {{Network::host, "host"}, {Network::none, "none"}}};
constexpr std::array<std::pair<RootKind, std::string_view>, 2> kRoots{
    {{RootKind::host, "host"}, {RootKind::tree, "tree"}}};
constexpr std::array<std::pair<Scratch, std::string_view>, 2> kScratches{
    {{Scratch::memory, "memory"}, {Scratch::disk, "disk"}}};
constexpr std::array<std::pair<Owner, std::string_view>, 2> kOwners{
    {{Owner::as_is, "as_is"}, {Owner::root_is_user, "root_is_user"}}};
constexpr std::array<std::pair<Outcome, std::string_view>, 8> kOutcomes{
    {{Outcome::exited, "exited"},
     {Outcome::signaled, "signaled"},
     {Outcome::timed_out, "timed_out"},
     {Outcome::cancelled, "cancelled"},
     {Outcome::out_of_memory, "out_of_memory"},
     {Outcome::failed_to_start, "failed_to_start"},
     {Outcome::unkillable, "unkillable"},
     {Outcome::lost, "lost"}}};

// A JSON integer that fits the field; the error names the key.
template <class Integer>
Result<Integer> number_at(const Json& document, std::string_view key) {
  const std::int64_t value = LOAM_TRY(document.int_at(key));
  if (value < 0 || static_cast<std::uint64_t>(value) >
                       static_cast<std::uint64_t>(std::numeric_limits<Integer>::max()))
    return fail(ErrorCode::invalid, std::string(key) + ": out of range");
  return static_cast<Integer>(value);
}

// Lists of pairs keep their order, so they are arrays of two strings and not objects.
Json pairs_to_json(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Json list = Json::array();
  for (const auto& [name, value] : pairs) list.push(Json::array({name, value}));
  return list;
}

Result<std::vector<std::pair<std::string, std::string>>> pairs_at(const Json& document,
                                                                  std::string_view key) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const Json& item : document[key].as_array()) {
    const auto& parts = item.as_array();
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string())
      return fail(ErrorCode::invalid, std::string(key) + ": expected pairs of strings");
    pairs.emplace_back(parts[0].as_string(), parts[1].as_string());
  }
  return pairs;
}

Json binds_to_json(const std::vector<BindPlan>& binds) {
  Json list = Json::array();
  for (const BindPlan& bind : binds)
    list.push(Json::object({{"from", bind.from},
                            {"to", bind.to},
                            {"writable", bind.writable},
                            {"owner", name_of(kOwners, bind.owner)},
                            {"opened_as_user", bind.opened_as_user}}));
  return list;
}

Result<std::vector<BindPlan>> binds_from(const Json& list) {
  std::vector<BindPlan> binds;
  for (const Json& item : list.as_array()) {
    BindPlan bind;
    bind.from = LOAM_TRY(item.string_at("from"));
    bind.to = LOAM_TRY(item.string_at("to"));
    bind.writable = LOAM_TRY(item.bool_at("writable"));
    bind.owner = LOAM_TRY(enum_at(item, "owner", kOwners));
    bind.opened_as_user = LOAM_TRY(item.bool_at("opened_as_user"));
    if (bind.from.empty() || bind.from[0] != '/' || bind.to.empty() || bind.to[0] != '/')
      return fail(ErrorCode::invalid, "binds: paths must be absolute");
    binds.push_back(std::move(bind));
  }
  return binds;
}

Json files_to_json(const std::vector<GeneratedFile>& files) {
  Json list = Json::array();
  for (const GeneratedFile& file : files)
    list.push(Json::object({{"path", file.path}, {"content", file.content}}));
  return list;
}

Result<std::vector<GeneratedFile>> files_from(const Json& list) {
  std::vector<GeneratedFile> files;
  for (const Json& item : list.as_array()) {
    GeneratedFile file;
    file.path = LOAM_TRY(item.string_at("path"));
    file.content = LOAM_TRY(item.string_at("content"));
    if (file.path.empty() || file.path[0] != '/')
      return fail(ErrorCode::invalid, "files: paths must be absolute");
    files.push_back(std::move(file));
  }
  return files;
}

Result<std::vector<std::uint32_t>> groups_from(const Json& list) {
  std::vector<std::uint32_t> groups;
  for (const Json& item : list.as_array()) {
    const std::int64_t value = item.as_int(-1);
    if (value < 0 || value > std::numeric_limits<std::uint32_t>::max())
      return fail(ErrorCode::invalid, "groups: out of range");
    groups.push_back(static_cast<std::uint32_t>(value));
  }
  return groups;
}

// The three parts of a plan that attempt_plan_from reads, one function each.
Result<void> read_identity(const Json& document, AttemptPlan& plan) {
  plan.uid = LOAM_TRY(number_at<std::uint32_t>(document, "uid"));
  plan.gid = LOAM_TRY(number_at<std::uint32_t>(document, "gid"));
  plan.groups = LOAM_TRY(groups_from(document["groups"]));
  plan.hostname = LOAM_TRY(document.string_at("hostname"));
  if (plan.uid == 0 || plan.gid == 0) return fail(ErrorCode::invalid, "uid, gid: no job runs as 0");
  return {};
}

Result<void> read_files(const Json& document, AttemptPlan& plan) {
  plan.root = LOAM_TRY(enum_at(document, "root", kRoots));
  plan.root_tree = LOAM_TRY(document.string_at("root_tree"));
  plan.root_masks = document["root_masks"].as_strings();
  plan.scratch = LOAM_TRY(enum_at(document, "scratch", kScratches));
  plan.scratch_folder = LOAM_TRY(document.string_at("scratch_folder"));
  plan.project_tree = LOAM_TRY(document.string_at("project_tree"));
  plan.project_owner = LOAM_TRY(enum_at(document, "project_owner", kOwners));
  plan.project_upper = LOAM_TRY(document.string_at("project_upper"));
  plan.binds = LOAM_TRY(binds_from(document["binds"]));
  plan.files = LOAM_TRY(files_from(document["files"]));
  return {};
}

Result<void> read_limits(const Json& document, AttemptPlan& plan) {
  plan.network = LOAM_TRY(enum_at(document, "network", kNetworks));
  plan.cgroup.v2 = LOAM_TRY(document["cgroup"].string_at("v2"));
  plan.cgroup.v1 = LOAM_TRY(pairs_at(document["cgroup"], "v1"));
  plan.memory_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "memory_bytes"));
  plan.cpu_milli = LOAM_TRY(number_at<std::uint32_t>(document, "cpu_milli"));
  plan.processes_max = LOAM_TRY(number_at<std::uint32_t>(document, "processes_max"));
  plan.shm_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "shm_bytes"));
  plan.time_limit_ms = LOAM_TRY(number_at<std::int64_t>(document, "time_limit_ms"));
  plan.grace_ms = LOAM_TRY(number_at<std::int64_t>(document, "grace_ms"));
  plan.output_bytes_max = LOAM_TRY(number_at<std::uint64_t>(document, "output_bytes_max"));
  plan.terminal = LOAM_TRY(document.bool_at("terminal"));
  plan.standard_input = LOAM_TRY(document.bool_at("standard_input"));
  plan.require = document["require"].as_strings();
  return {};
}

}  // namespace

Json to_json(const AttemptPlan& plan) {
  Json groups = Json::array();
  for (const std::uint32_t group : plan.groups) groups.push(group);
  return Json::object({
      {"version", kAttemptPlanVersion},
      {"attempt", plan.attempt},
      {"folder", plan.folder},
      {"argv", Json::array_of(plan.argv)},
      {"environment", pairs_to_json(plan.environment)},
      {"secrets_file", plan.secrets_file},
      {"directory", plan.directory},
      {"uid", plan.uid},
      {"gid", plan.gid},
      {"groups", std::move(groups)},
      {"hostname", plan.hostname},
      {"root", name_of(kRoots, plan.root)},
      {"root_tree", plan.root_tree},
      {"root_masks", Json::array_of(plan.root_masks)},
      {"scratch", name_of(kScratches, plan.scratch)},
      {"scratch_folder", plan.scratch_folder},
      {"project_tree", plan.project_tree},
      {"project_owner", name_of(kOwners, plan.project_owner)},
      {"project_upper", plan.project_upper},
      {"binds", binds_to_json(plan.binds)},
      {"files", files_to_json(plan.files)},
      {"network", name_of(kNetworks, plan.network)},
      {"cgroup", Json::object({{"v2", plan.cgroup.v2}, {"v1", pairs_to_json(plan.cgroup.v1)}})},
      {"memory_bytes", plan.memory_bytes},
      {"cpu_milli", plan.cpu_milli},
      {"processes_max", plan.processes_max},
      {"shm_bytes", plan.shm_bytes},
      {"time_limit_ms", plan.time_limit_ms},
      {"grace_ms", plan.grace_ms},
      {"output_bytes_max", plan.output_bytes_max},
      {"terminal", plan.terminal},
      {"standard_input", plan.standard_input},
      {"require", Json::array_of(plan.require)},
  });
}

Result<AttemptPlan> attempt_plan_from(const Json& document) {
  const auto read = [&]() -> Result<AttemptPlan> {
    if (const auto version = LOAM_TRY(document.int_at("version")); version != kAttemptPlanVersion)
      return fail(ErrorCode::invalid, "version " + std::to_string(version) + ", expected " +
                                          std::to_string(kAttemptPlanVersion));
    AttemptPlan plan;
    plan.attempt = LOAM_TRY(document.string_at("attempt"));
    plan.folder = LOAM_TRY(document.string_at("folder"));
    plan.argv = document["argv"].as_strings();
    if (plan.argv.empty()) return fail(ErrorCode::invalid, "argv: empty");
    plan.environment = LOAM_TRY(pairs_at(document, "environment"));
    plan.secrets_file = LOAM_TRY(document.string_at("secrets_file"));
    plan.directory = LOAM_TRY(document.string_at("directory"));
    LOAM_CHECK(read_identity(document, plan));
    LOAM_CHECK(read_files(document, plan));
    LOAM_CHECK(read_limits(document, plan));
    return plan;
  };
  auto plan = read();
  if (!plan) return in_context("attempt plan", plan.error());
  return plan;
}

std::string_view outcome_name(Outcome outcome) { return name_of(kOutcomes, outcome); }

Result<Outcome> outcome_from(std::string_view name) {
  for (const auto& [value, candidate] : kOutcomes)
    if (candidate == name) return value;
  return fail(ErrorCode::invalid, "unknown outcome '" + std::string(name) + "'");
}

Json to_json(const std::vector<MissingGuard>& missing) {
  Json list = Json::array();
  for (const MissingGuard& item : missing)
    list.push(Json::object({{"guard", item.guard}, {"reason", item.reason}}));
  return list;
}

Result<std::vector<MissingGuard>> missing_guards_from(const Json& list) {
  std::vector<MissingGuard> missing;
  for (const Json& item : list.as_array()) {
    MissingGuard one;
    one.guard = LOAM_TRY(item.string_at("guard"));
    one.reason = LOAM_TRY(item.string_at("reason"));
    missing.push_back(std::move(one));
  }
  return missing;
}

Json to_json(const ExitRecord& record) {
  return Json::object({
      {"attempt", record.attempt},
      {"outcome", outcome_name(record.outcome)},
      {"code", record.code},
      {"signal", record.signal},
      {"error", record.error},
      {"started_ms", record.started_ms},
      {"ended_ms", record.ended_ms},
      {"memory_peak_bytes", record.memory_peak_bytes},
      {"memory_limit_bytes", record.memory_limit_bytes},
      {"cpu_ns", record.cpu_ns},
      {"missing", to_json(record.missing)},
  });
}

Result<ExitRecord> exit_record_from(const Json& document) {
  const auto read = [&]() -> Result<ExitRecord> {
    ExitRecord record;
    record.attempt = LOAM_TRY(document.string_at("attempt"));
    const std::string outcome = LOAM_TRY(document.string_at("outcome"));
    record.outcome = LOAM_TRY(outcome_from(outcome));
    record.code = LOAM_TRY(number_at<int>(document, "code"));
    record.signal = LOAM_TRY(number_at<int>(document, "signal"));
    record.error = LOAM_TRY(document.string_at("error"));
    record.started_ms = LOAM_TRY(document.int_at("started_ms"));
    record.ended_ms = LOAM_TRY(document.int_at("ended_ms"));
    record.memory_peak_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "memory_peak_bytes"));
    record.memory_limit_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "memory_limit_bytes"));
    record.cpu_ns = LOAM_TRY(number_at<std::uint64_t>(document, "cpu_ns"));
    record.missing = LOAM_TRY(missing_guards_from(document["missing"]));
    return record;
  };
  auto record = read();
  if (!record) return in_context("exit record", record.error());
  return record;
}

}  // namespace loam::api
