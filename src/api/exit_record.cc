#include <array>
#include <string_view>

#include "api/attempt.h"
#include "api/fields.h"

namespace loam::api {
namespace {

constexpr std::array<std::pair<Outcome, std::string_view>, 11> kOutcomes{
    {{Outcome::exited, "exited"},
     {Outcome::signaled, "signaled"},
     {Outcome::timed_out, "timed_out"},
     {Outcome::cancelled, "cancelled"},
     {Outcome::out_of_memory, "out_of_memory"},
     {Outcome::failed_to_start, "failed_to_start"},
     {Outcome::unkillable, "unkillable"},
     {Outcome::lost, "lost"},
     {Outcome::device_busy, "device_busy"},
     {Outcome::preempted, "preempted"},
     {Outcome::disk_full, "disk_full"}}};

}  // namespace

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
  Json document = Json::object({
      {"attempt", record.attempt},
      {"outcome", outcome_name(record.outcome)},
      {"code", record.code},
      {"signal", record.signal},
      {"error", record.error},
      {"device", record.device},
      {"started_ms", record.started_ms},
      {"ended_ms", record.ended_ms},
      {"memory_peak_bytes", record.memory_peak_bytes},
      {"memory_limit_bytes", record.memory_limit_bytes},
      {"cpu_ns", record.cpu_ns},
      {"missing", to_json(record.missing)},
  });
  if (record.rank >= 0) document.set("rank", record.rank);
  return document;
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
    record.device = document["device"].as_string();  // records of before have none
    if (document.has("rank")) record.rank = LOAM_TRY(number_at<int>(document, "rank"));
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
