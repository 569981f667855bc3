#include "cli/words.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "base/text.h"
#include "cli/verb.h"

namespace loam::cli {
namespace {

std::string signal_name(std::int64_t number) {
  const char* name = ::strsignal(static_cast<int>(number));
  return "signal " + std::to_string(number) +
         (name != nullptr ? " (" + std::string(name) + ")" : "");
}

std::string memory_of(const Json& record) {
  const std::int64_t limit = record["memory_limit_bytes"].as_int();
  const std::int64_t peak = record["memory_peak_bytes"].as_int();
  if (limit <= 0 || peak <= 0) return "";
  return ": charged peak " + format_size(static_cast<std::uint64_t>(peak)) + " of limit " +
         format_size(static_cast<std::uint64_t>(limit)) + " (includes cache)";
}

std::string after_duration(const Json& record) {
  const std::string duration = duration_of(record);
  return duration.empty() ? "" : " after " + duration;
}

}  // namespace

bool is_number(const std::string& text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string describe_exit(const Json& record) {
  const std::string& outcome = record["outcome"].as_string();
  const std::int64_t number = record["signal"].as_int();
  const std::string error = printable(record["error"].as_string());
  const std::string who =
      record.has("rank") ? "rank " + std::to_string(record["rank"].as_int()) + " failed first: " : "";
  if (outcome == "exited") return who + "exit status " + std::to_string(record["code"].as_int());
  if (outcome == "signaled") return who + "killed by " + signal_name(number);
  if (outcome == "timed_out")
    return "timed out" + after_duration(record) + (error.empty() ? "" : ": " + error);
  if (outcome == "cancelled") return "cancelled";
  if (outcome == "preempted") return "preempted" + after_duration(record);
  if (outcome == "out_of_memory")
    return error.empty() ? "out of memory" + memory_of(record) : error;  // with the largest process
  if (outcome == "failed_to_start") return "did not start: " + error;
  if (outcome == "lost")
    return error.empty() ? "lost: it ended together with its keeper" : "lost: " + error;
  if (outcome == "disk_full") return "ended: " + error;
  if (outcome == "device_busy") return "did not start: " + error;
  if (outcome == "unkillable") return "could not be killed" + (error.empty() ? "" : ": " + error);
  return outcome.empty() ? "ended" : printable(outcome);
}

int status_of_exit(const Json& record) {
  const std::string& outcome = record["outcome"].as_string();
  const auto number = static_cast<int>(std::clamp<std::int64_t>(record["signal"].as_int(), 0, 64));
  if (outcome == "exited") return static_cast<int>(record["code"].as_int() & 255);
  if (outcome == "signaled") return kExitSignal + number;
  if (outcome == "timed_out") return kExitTimedOut;
  if (outcome == "preempted") return kExitPreempted;
  if (outcome == "out_of_memory") return kExitOutOfMemory;
  if (outcome == "cancelled") return kExitSignal + (number != 0 ? number : SIGTERM);
  if (outcome == "failed_to_start") {
    const std::string& error = record["error"].as_string();
    if (error.find("o such file") != std::string::npos ||  // ours, or the system's capital
        error.find("not found") != std::string::npos)
      return kExitNotFound;
    return kExitNotExecutable;
  }
  return kExitFailure;
}

std::string duration_of(const Json& record) {
  const std::int64_t start = record["started_ms"].as_int();
  const std::int64_t end = record["ended_ms"].as_int();
  if (start <= 0 || end < start) return "";
  return format_duration(std::chrono::milliseconds(end - start));
}

std::string describe_reason(const Json& event) {
  std::vector<std::string> changed = event["changed"].as_strings();
  for (std::string& item : changed) item = printable(item);
  if (!changed.empty()) return "runs again, changed: " + join(changed, ", ");
  const std::string reason = printable(event["reason"].as_string());
  if (reason == "forced") return "runs again, as --force asks";
  return reason.empty() ? "new" : reason;
}

std::string describe_progress(const Json& event) {
  std::string text = printable(event["phase"].as_string());
  const std::int64_t total = event["total"].as_int();
  if (total > 0) text += " " + std::to_string(event["done"].as_int()) + "/" + std::to_string(total);
  const std::string detail = printable(event["text"].as_string());
  if (!detail.empty()) text += " " + detail;
  return text;
}

std::string progress_bar(std::int64_t done, std::int64_t total, int width) {
  if (total <= 0 || width <= 0) return "";
  const double part =
      static_cast<double>(std::clamp<std::int64_t>(done, 0, total)) / static_cast<double>(total);
  const auto filled = static_cast<std::size_t>(part * width);
  return "[" + std::string(filled, '#') +
         std::string(static_cast<std::size_t>(width) - filled, '.') + "]";
}

std::string format_age(std::int64_t then_ms, std::int64_t now_ms) {
  if (then_ms <= 0) return "";
  const std::int64_t seconds = std::max<std::int64_t>(0, (now_ms - then_ms) / 1000);
  if (seconds < 60) return std::to_string(seconds) + " s";
  if (seconds < 3600) return std::to_string(seconds / 60) + " min";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " days";
}

std::string format_cpus(std::int64_t cpu_milli) {
  std::string text = std::to_string(cpu_milli / 1000);
  const std::int64_t rest = cpu_milli % 1000;
  if (rest <= 0) return text;
  std::string digits = std::to_string(1000 + rest).substr(1);
  digits.erase(digits.find_last_not_of('0') + 1);
  return text + "." + digits;
}

std::string short_digest(const std::string& digest) {
  const std::string_view hex =
      digest.starts_with("sha256:") ? std::string_view(digest).substr(7) : std::string_view(digest);
  return printable(hex.substr(0, 12));
}

std::string format_bytes(const Json& number) {
  if (!number.is_number() || number.as_double() < 0) return "";
  return format_size(static_cast<std::uint64_t>(number.as_double()));
}

std::string user_of(const Json& job) {
  const std::string& account = job["account"].as_string();
  return job["user"].as_string() + (account.empty() || account == "default" ? "" : "/" + account);
}

std::string plain_text(const Json& value) {
  return printable(value.is_string() ? value.as_string() : value.dump());
}

}  // namespace loam::cli
