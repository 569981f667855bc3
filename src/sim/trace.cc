#include "sim/trace.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "sim/reading.h"
#include "sim/values.h"

namespace loam::sim {
namespace {

constexpr std::size_t kProgressEvery = 1 << 16;
constexpr std::size_t kShownBytes = 60;

std::string shown(std::string_view text) {
  return "'" + printable(text.substr(0, kShownBytes)) + (text.size() > kShownBytes ? "…" : "") +
         "'";
}

bool is_swf(std::string_view line) {
  if (line.find(',') != std::string_view::npos) return false;
  const auto first = line.substr(0, line.find_first_of(" \t"));
  return number_of(first).has_value();
}

// By submission, counted from the first one.
void put_in_order(Trace& trace) {
  const auto earlier = [](const Job& a, const Job& b) { return a.submit_ms < b.submit_ms; };
  if (!std::is_sorted(trace.jobs.begin(), trace.jobs.end(), earlier)) {
    trace.notes.emplace_back("not in order of submission: sorted");
    std::stable_sort(trace.jobs.begin(), trace.jobs.end(), earlier);
  }
  if (trace.jobs.empty()) return;
  trace.origin_ms += trace.jobs.front().submit_ms;
  const std::int64_t first = trace.jobs.front().submit_ms;
  for (Job& job : trace.jobs) job.submit_ms -= first;
}

}  // namespace

std::optional<std::uint32_t> Names::index_of(std::string_view name) {
  if (name.size() > kNameBytesMax) return std::nullopt;
  const auto [found, fresh] =
      indexes_.try_emplace(std::string(name), static_cast<std::uint32_t>(texts_.size()));
  if (!fresh) return found->second;
  if (texts_.size() >= kNamesMax) {
    indexes_.erase(found);
    return std::nullopt;
  }
  texts_.emplace_back(name);
  return found->second;
}

void Reading::finding(const std::string& text) {
  if (options_.skip_bad) {
    ++trace_.bad_lines;
    return;
  }
  findings_.push_back(lines_.name() + ":" + std::to_string(lines_.number()) + ": " + text);
}

std::optional<double> Reading::amount(std::string_view what, std::string_view text, double most) {
  const auto value = number_of(text);
  if (value && *value >= 0 && *value <= most) return value;
  finding(std::string(what) + ": found " + shown(text) + ", expected a number from 0 to " +
          std::to_string(static_cast<std::int64_t>(most)));
  return std::nullopt;
}

std::optional<std::int64_t> Reading::length(std::string_view what, std::string_view text) {
  const auto value = length_ms(text);
  if (value && *value >= 0 && *value <= kLengthMsMax) return value;
  finding(std::string(what) + ": found " + shown(text) +
          ", expected seconds, 1h30m or HH:MM:SS, at most 10 years");
  return std::nullopt;
}

std::optional<std::int64_t> Reading::instant(std::string_view what, std::string_view text) {
  const auto value = instant_ms(text);
  if (value && *value >= -kInstantMsMax && *value <= kInstantMsMax) return value;
  finding(std::string(what) + ": found " + shown(text) +
          ", expected seconds or a date such as 2017-10-01 12:34:56" +
          (value ? "; these look like milliseconds" : ""));
  return std::nullopt;
}

std::optional<std::uint32_t> Reading::name(Names& names, std::string_view what,
                                           std::string_view text) {
  const auto index = names.index_of(text);
  if (!index)
    finding(std::string(what) + ": found " + shown(text) + ", expected a name of at most " +
            std::to_string(kNameBytesMax) + " bytes, and at most " + std::to_string(kNamesMax) +
            " of them");
  return index;
}

std::optional<std::uint32_t> Reading::user(std::string_view text) {
  return name(users_, "user", is_unknown(text) ? "unknown" : text);
}

std::optional<std::uint32_t> Reading::account(std::string_view text) {
  return name(accounts_, "account", is_unknown(text) ? "" : text);
}

bool Reading::add(Job job) {
  Trace& trace = trace_;
  if (trace.jobs.size() >= kJobsMax) return false;
  trace.has_cpus = trace.has_cpus || job.cpu_milli > 0;
  trace.has_gpus = trace.has_gpus || job.gpu_milli > 0;
  trace.has_memory = trace.has_memory || job.memory_bytes > 0;
  trace.has_priorities = trace.has_priorities || job.priority != 0;
  trace.jobs.push_back(std::move(job));
  if (options_.progress && trace.jobs.size() % kProgressEvery == 0)
    options_.progress(trace.jobs.size());
  return true;
}

Result<void> Reading::result() const {
  if (trace_.jobs.size() >= kJobsMax)
    return fail(ErrorCode::too_large, lines_.name() + ":" + std::to_string(lines_.number()) +
                                          ": over " + std::to_string(kJobsMax) +
                                          " jobs; expected a part of it");
  if (findings_.empty()) return {};
  std::vector<std::string> named = findings_;
  if (named.size() > kFindingsMax) {
    named.resize(kFindingsMax);
    named.emplace_back("and more, not looked for");
  }
  named.emplace_back("(--skip-bad leaves such lines out, and counts them)");
  return fail(ErrorCode::invalid, join(named, "\n"));
}

Result<Trace> read_trace(const std::string& path, const ReadOptions& options) {
  Trace trace;
  Lines lines = LOAM_TRY(Lines::open(path));
  trace.name = lines.name();
  Reading reading(trace, options, lines);
  std::string line;
  for (;;) {
    if (!LOAM_TRY(lines.next(line)))
      return fail(ErrorCode::invalid, trace.name +
                                          ": no job in it; expected a trace in the "
                                          "Standard Workload Format, or CSV with a header");
    const std::string_view text = trim(line);
    if (text.starts_with(';') || text.starts_with('#'))
      read_swf_comment(reading, text.substr(1));
    else if (!text.empty())
      break;
  }
  const bool swf = is_swf(trim(line));
  trace.format = swf ? "SWF" : "CSV";
  LOAM_CHECK(swf ? read_swf(reading, std::move(line)) : read_csv(reading, std::move(line)));
  LOAM_CHECK(reading.result());
  put_in_order(trace);
  return trace;
}

}  // namespace loam::sim
