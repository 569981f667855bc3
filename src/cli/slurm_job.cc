#include "cli/slurm_job.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/text.h"

namespace loam::cli {
namespace {

constexpr std::int64_t kCountMax = 100'000;
constexpr std::uint32_t kArrayIndexMax = 4'000'000;  // Slurm's own limit of MaxArraySize
constexpr std::size_t kArrayJobsMax = 10'000;
constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kNiceMax = 1000;

std::optional<std::int64_t> whole(std::string_view text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stopped == end ? std::optional(value) : std::nullopt;
}

tl::unexpected<Error> wrong(const std::string& option, const std::string& text,
                            const std::string& expected) {
  return fail(ErrorCode::invalid,
              "--" + option + ": found '" + printable(text) + "', expected " + expected);
}

Result<std::int64_t> count_of(const SlurmValues& values, const std::string& option,
                              std::int64_t fallback) {
  const auto found = values.find(option);
  if (found == values.end()) return fallback;
  const auto count = whole(found->second);
  if (!count || *count < 1 || *count > kCountMax)
    return wrong(option, found->second, "a whole number from 1 to " + std::to_string(kCountMax));
  return *count;
}

std::string value_of(const SlurmValues& values, const std::string& option) {
  const auto found = values.find(option);
  return found == values.end() ? "" : found->second;
}

std::string absolute(const std::string& path, const std::string& folder) {
  return path.starts_with('/') ? path : folder + (folder == "/" ? "" : "/") + path;
}

// "4", "a100:4"
Result<SlurmGpus> parse_gpus(const std::string& option, const std::string& text) {
  const auto colon = text.rfind(':');
  const std::string model = colon == std::string::npos ? "" : text.substr(0, colon);
  const auto count =
      whole(std::string_view(text).substr(colon == std::string::npos ? 0 : colon + 1));
  if (!count || *count < 0 || *count > 1024 || model.find(',') != std::string::npos)
    return wrong(option, text, "a number such as 2, or a model and one, such as a100:2");
  return SlurmGpus{model, *count};
}

// "gpu:a100:2,licence-x:1": a kind alone is one of it.
Result<void> add_gres(const std::string& text, SlurmJob& job) {
  for (const std::string& part : split(text, ',')) {
    const auto words = split(part, ':');
    const auto last = whole(words.back());
    SlurmGpus amount{"", words.size() > 1 && last ? *last : 1};
    if (words.size() == 3 || (words.size() == 2 && !last)) amount.model = words[1];
    if (words[0].empty() || words.size() > 3 || amount.count < 0 || amount.count > 1024 ||
        (words.size() == 3 && !last))
      return wrong("gres", text, "such as gpu:2 or gpu:a100:2");
    if (amount.count > 0) job.devices.emplace_back(words[0], amount);
  }
  return {};
}

Result<void> add_devices(const SlurmValues& values, SlurmJob& job) {
  if (values.contains("gres")) LOAM_CHECK(add_gres(value_of(values, "gres"), job));
  for (const char* option : {"gpus-per-task", "gpus-per-node", "gpus"}) {
    if (!values.contains(option)) continue;
    SlurmGpus gpus = LOAM_TRY(parse_gpus(option, value_of(values, option)));
    if (std::string_view(option) == "gpus-per-task") gpus.count *= job.tasks;
    std::erase_if(job.devices, [](const auto& one) { return one.first == "gpu"; });
    if (gpus.count > 0) job.devices.emplace_back("gpu", gpus);
  }
  return {};
}

std::int64_t gpus_of(const SlurmJob& job) {
  std::int64_t count = 0;
  for (const auto& [kind, amount] : job.devices)
    if (kind == "gpu") count += amount.count;
  return count;
}

Result<void> add_cpus(const SlurmValues& values, SlurmJob& job) {
  if (values.contains("nodes")) {
    const std::string text = value_of(values, "nodes");
    if (whole(text.substr(0, text.find('-'))) != 1)
      return wrong("nodes", text, "1: Loam runs a job on one machine");
  }
  job.says_tasks = values.contains("ntasks") || values.contains("ntasks-per-node");
  job.says_cpus = values.contains("cpus-per-task");
  const std::int64_t on_node = LOAM_TRY(count_of(values, "ntasks-per-node", 1));
  job.tasks = LOAM_TRY(count_of(values, "ntasks", on_node));
  job.cpus_per_task = LOAM_TRY(count_of(values, "cpus-per-task", 1));
  if (job.tasks * job.cpus_per_task > kCountMax)
    return fail(ErrorCode::invalid, "--ntasks: found more CPUs than any machine has");
  return {};
}

Result<void> add_memory(const SlurmValues& values, SlurmJob& job) {
  const auto read = [&](const char* option) -> Result<std::int64_t> {
    return parse_slurm_memory(option, value_of(values, option));
  };
  if (values.contains("mem")) {
    job.memory_mib = LOAM_TRY(read("mem"));
    if (*job.memory_mib == 0)
      return wrong("mem", "0", "a size: Loam gives no job all memory of the machine");
    job.memory_bytes = *job.memory_mib * kMiB;
  } else if (values.contains("mem-per-cpu")) {
    job.memory_per_cpu_mib = LOAM_TRY(read("mem-per-cpu"));
    job.memory_bytes = *job.memory_per_cpu_mib * kMiB * job.tasks * job.cpus_per_task;
  } else if (values.contains("mem-per-gpu")) {
    job.memory_bytes = LOAM_TRY(read("mem-per-gpu")) * kMiB * gpus_of(job);
  } else {
    job.not_honoured.emplace_back("no --mem: it may use 1 GiB");
  }
  if (job.memory_bytes <= 0)
    return fail(ErrorCode::invalid, "--mem-per-gpu: found no GPU, expected one");
  return {};
}

Result<void> add_queue(const SlurmValues& values, SlurmJob& job) {
  job.account = value_of(values, "account");
  job.hold = values.contains("hold");
  if (values.contains("array")) job.array = LOAM_TRY(parse_slurm_array(value_of(values, "array")));
  if (job.array && job.array->limited)
    job.not_honoured.emplace_back("--array: the limit after % is not honoured");
  if (values.contains("nice")) {
    const auto nice = whole(value_of(values, "nice"));
    if (!nice) return wrong("nice", value_of(values, "nice"), "a whole number");
    job.priority = std::clamp(-*nice, -kNiceMax, kNiceMax);
  }
  if (values.contains("dependency")) {
    const std::string text = value_of(values, "dependency");
    for (const std::string& part : split(text, ',')) {
      const auto words = split(part, ':');
      const bool known = words[0] == "after" || words[0] == "afterany" || words[0] == "afterok" ||
                         words[0] == "afternotok";
      for (std::size_t i = 1; known && i < words.size(); ++i)
        if (whole(words[i]).value_or(0) > 0)
          job.dependency.push_back(words[0] + ":" + words[i]);
        else
          return wrong("dependency", text, "numbers of jobs");
      if (!known || words.size() < 2)
        return wrong("dependency", text,
                     "after:, afterany:, afterok: or afternotok: and numbers, separated by commas");
    }
  }
  return {};
}

Result<void> add_files(const SlurmValues& values, SlurmJob& job) {
  if (values.contains("chdir")) job.folder = absolute(value_of(values, "chdir"), job.submit_folder);
  job.output = value_of(values, "output");
  job.error = value_of(values, "error");
  job.input = value_of(values, "input");
  const std::string mode = value_of(values, "open-mode");
  if (!mode.empty() && mode != "append" && mode != "truncate")
    return wrong("open-mode", mode, "append or truncate");
  job.append = mode == "append";
  for (const char* option : {"output", "error", "input", "chdir", "job-name"})
    if (value_of(values, option).find('\n') != std::string::npos)
      return wrong(option, value_of(values, option), "one line");
  return {};
}

}  // namespace

Result<std::int64_t> parse_slurm_time(const std::string& text) {
  if (text == "UNLIMITED" || text == "INFINITE" || text == "-1" || text == "0") return 0;
  const auto dash = text.find('-');
  const std::string rest = dash == std::string::npos ? text : text.substr(dash + 1);
  std::vector<std::int64_t> numbers;
  bool fine = true;
  for (const std::string& part : split(rest, ':')) {
    const auto number = whole(part);
    fine = fine && number && *number >= 0 && *number < 100'000'000;
    numbers.push_back(number.value_or(0));
  }
  const auto days = dash == std::string::npos ? 0 : whole(text.substr(0, dash)).value_or(-1);
  if (!fine || numbers.size() > 3 || days < 0 || days > 36'500)
    return wrong("time", text, "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS");
  // With days the first is hours; without them one is minutes, and two are minutes and seconds.
  if (dash == std::string::npos && numbers.size() < 3) numbers.insert(numbers.begin(), 0);
  numbers.resize(3);
  return (((days * 24 + numbers[0]) * 60 + numbers[1]) * 60 + numbers[2]) * 1000;
}

Result<std::int64_t> parse_slurm_memory(const std::string& option, const std::string& text) {
  std::string number = text;
  if (number.ends_with('B') || number.ends_with('b')) number.pop_back();
  std::int64_t unit_kib = 1024;
  if (!number.empty()) {
    const auto at = std::string_view("KMGTkmgt").find(number.back());
    if (at != std::string_view::npos) {
      unit_kib = std::int64_t{1} << (10 * (at % 4));
      number.pop_back();
    }
  }
  const auto amount = whole(number);
  if (!amount || *amount < 0 || *amount > (std::int64_t{1} << 40) / unit_kib)
    return wrong(option, text, "a size such as 4G or 4000 (MiB)");
  return (*amount * unit_kib + 1023) / 1024;
}

Result<SlurmArray> parse_slurm_array(const std::string& text) {
  const std::string expected = "indexes such as 0-15, 1,3,7 or 0-30:5, at most " +
                               std::to_string(kArrayJobsMax) + " of them";
  SlurmArray array;
  std::string list = text;
  if (const auto percent = list.find('%'); percent != std::string::npos) {
    if (whole(list.substr(percent + 1)).value_or(0) < 1) return wrong("array", text, expected);
    array.limited = true;
    list.resize(percent);
  }
  std::set<std::uint32_t> indexes;
  for (const std::string& part : split(list, ',')) {
    const auto colon = part.find(':');
    const std::string range = part.substr(0, colon);
    const auto dash = range.find('-');
    const auto first = whole(range.substr(0, dash));
    const auto last = dash == std::string::npos ? first : whole(range.substr(dash + 1));
    const auto step = colon == std::string::npos ? 1 : whole(part.substr(colon + 1)).value_or(0);
    if (!first || !last || *first < 0 || *last < *first || *last > kArrayIndexMax || step < 1)
      return wrong("array", text, expected);
    if (colon != std::string::npos)
      array.step = static_cast<std::uint32_t>(std::min<std::int64_t>(step, kArrayIndexMax));
    for (std::int64_t index = *first; index <= *last; index += step) {
      indexes.insert(static_cast<std::uint32_t>(index));
      if (indexes.size() > kArrayJobsMax) return wrong("array", text, expected);
    }
  }
  array.indexes.assign(indexes.begin(), indexes.end());
  return array;
}

Result<SlurmJob> slurm_job(const SlurmValues& values, const std::string& folder,
                           const std::string& default_name) {
  SlurmJob job;
  job.submit_folder = job.folder = folder;
  job.name = values.contains("job-name") ? value_of(values, "job-name") : default_name;
  for (const SlurmOption& option : slurm_options())
    if (*option.help == '\0' && values.contains(option.name))
      job.not_honoured.push_back("--" + std::string(option.name) +
                                 (value_of(values, option.name).empty()
                                      ? ""
                                      : "=" + printable(value_of(values, option.name))) +
                                 " is not honoured");
  if (values.contains("time")) job.time_ms = LOAM_TRY(parse_slurm_time(value_of(values, "time")));
  LOAM_CHECK(add_cpus(values, job));
  LOAM_CHECK(add_devices(values, job));
  LOAM_CHECK(add_memory(values, job));
  LOAM_CHECK(add_queue(values, job));
  LOAM_CHECK(add_files(values, job));
  return job;
}

}  // namespace loam::cli
