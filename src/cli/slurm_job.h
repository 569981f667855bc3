// What a batch script asks for, in Loam's terms, and the script that starts it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/slurm_options.h"

namespace loam::cli {

struct SlurmArray {
  std::vector<std::uint32_t> indexes;  // in order, each once
  std::uint32_t step = 1;
  bool limited = false;  // "%4": that many at a time, which is not honoured
};

struct SlurmGpus {
  std::string model;
  std::int64_t count = 0;
};

struct SlurmJob {
  std::string name;
  std::int64_t time_ms = 0;  // 0: no limit
  std::optional<std::int64_t> memory_mib, memory_per_cpu_mib;
  std::int64_t memory_bytes = std::int64_t{1} << 30;
  std::int64_t tasks = 1, cpus_per_task = 1;
  bool says_tasks = false, says_cpus = false;
  std::vector<std::pair<std::string, SlurmGpus>> devices;  // kind → how many
  std::string folder;                                      // where it runs; absolute
  std::string submit_folder;                               // absolute
  std::string output, error, input;                        // patterns; "" for what is the default
  bool append = false;
  std::optional<SlurmArray> array;
  std::string account;
  std::optional<std::int64_t> priority;
  bool hold = false;
  std::vector<std::string> dependency;    // "afterok:17"
  std::vector<std::string> not_honoured;  // a line each
};

// `folder`: where the verb was called. invalid: what cannot be meant, or not be done here.
Result<SlurmJob> slurm_job(const SlurmValues& values, const std::string& folder,
                           const std::string& default_name);

struct SlurmIdentity {
  std::string user, host;
  std::uint32_t uid = 0, gid = 0;
};
// The text of a shell script that sets SLURM_* and runs /project/slurm_script with its arguments
// (its own). `array_index`: of an array, whose first job's number is `array_job` (0: this one).
struct SlurmTask {
  std::optional<std::uint32_t> index;
  std::int64_t array_job = 0;
};
std::string slurm_start_script(const SlurmJob& job, const SlurmIdentity& identity,
                               const SlurmTask& task);
// Folders that must be there to be written: of the job, and of its outputs.
std::vector<std::string> slurm_folders(const SlurmJob& job);

// "30", "1:30", "2-12": milliseconds, 0 for none. Seconds are rounded up to none.
Result<std::int64_t> parse_slurm_time(const std::string& text);
// "4G", "500": MiB.
Result<std::int64_t> parse_slurm_memory(const std::string& option, const std::string& text);
Result<SlurmArray> parse_slurm_array(const std::string& text);

}  // namespace loam::cli
