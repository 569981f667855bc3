// A recorded workload: who asked when for what, and how long it ran.
//
//   file ─ lines.h ─ swf.cc | csv.cc (a line → a Job, or a finding) ─ in order of submission ─▶
//   Trace
//
// Formats, field by field: docs/simulation.md. Trust: foreign bytes; lines, jobs, names and every
// number are limited, what is wrong is named with its file and line.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace loam::sim {

inline constexpr std::size_t kJobsMax = 20'000'000;
inline constexpr std::size_t kNamesMax = 1'000'000;  // users; accounts
inline constexpr std::size_t kNameBytesMax = 256;
inline constexpr std::size_t kFindingsMax = 10;  // named; the rest is counted
inline constexpr std::int64_t kLengthMsMax = 3650LL * 24 * 3600 * 1000;  // of a job, or its limit
inline constexpr std::int64_t kInstantMsMax = 100'000'000'000LL * 1000;
inline constexpr double kAmountMax = 1e9;  // CPUs or GPUs of a job
inline constexpr double kBytesMax = 1e18;  // of memory; more is taken as that

struct Job {
  std::int64_t submit_ms = 0;  // after the trace's first submission
  std::int64_t duration_ms = 0;
  std::int64_t limit_ms = 0;  // 0: none was recorded
  std::uint64_t cpu_milli = 0;
  std::uint64_t gpu_milli = 0;
  std::uint64_t memory_bytes = 0;
  std::int32_t priority = 0;
  std::uint32_t user = 0;     // index into Trace::users
  std::uint32_t account = 0;  // index into Trace::accounts
  bool preemptible = false;
  std::string id;
};

struct Trace {
  std::string name;
  std::string format;                       // "SWF", "CSV"
  std::vector<Job> jobs;                    // by submission; of the same moment, as in the file
  std::vector<std::string> users;           // "unknown" where none was recorded
  std::vector<std::string> accounts;        // "" where none was recorded
  std::int64_t origin_ms = 0;               // the first submission, by the trace's own clock
  bool dated = false;                       // that clock counts from 1970
  std::optional<std::uint64_t> processors;  // of the machine it was recorded on
  bool has_cpus = false, has_gpus = false, has_memory = false, has_priorities = false;
  std::map<std::string, std::uint64_t> left_out;  // why → jobs
  std::uint64_t bad_lines = 0;                    // left out because ReadOptions says so
  std::vector<std::string> notes;                 // what somebody should know of how it was read
};

struct ReadOptions {
  bool skip_bad = false;  // lines with a finding are left out and counted
  std::function<void(std::size_t jobs)> progress;
};

// invalid: the findings, each "file:line: found, expected".
Result<Trace> read_trace(const std::string& path, const ReadOptions& options);

}  // namespace loam::sim
