// The script that stands between the sandbox and the user's batch script: it sets what Slurm sets,
// goes where the job runs, and opens its output. Only the run's number is not known before.
#include <algorithm>
#include <cctype>

#include "base/text.h"
#include "cli/slurm_job.h"

namespace loam::cli {
namespace {

constexpr int kPaddingMax = 10;  // "%4j": Slurm's own limit

std::string quoted(std::string_view text) {
  std::string made = "'";
  for (const char one : text) made += one == '\'' ? std::string("'\\''") : std::string(1, one);
  return made + "'";
}

class Pattern {
 public:
  Pattern(const SlurmJob& job, const SlurmIdentity& identity, const SlurmTask& task)
      : job_(job), identity_(identity), task_(task) {}

  // As a word of the shell. "\" anywhere in a pattern means that % is a %.
  std::string word(const std::string& pattern) const {
    if (pattern.find('\\') != std::string::npos) {
      std::string plain = pattern;
      std::erase(plain, '\\');
      return quoted(plain);
    }
    std::string made, text;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] != '%') {
        text += pattern[i];
        continue;
      }
      std::size_t at = i + 1;
      int width = 0;
      while (at < pattern.size() && std::isdigit(static_cast<unsigned char>(pattern[at])))
        width = std::min(width * 10 + (pattern[at++] - '0'), kPaddingMax);
      const std::string value = at < pattern.size() ? value_of(pattern[at], width) : "";
      if (value.empty()) {
        text += '%';
        if (at < pattern.size() && pattern[at] == '%') i = at;
        continue;
      }
      made += (text.empty() ? "" : quoted(text)) + value;
      text.clear();
      i = at;
    }
    return made + (text.empty() && !made.empty() ? "" : quoted(text));
  }

 private:
  // A word of the shell; "" where the letter says nothing.
  std::string value_of(char letter, int width) const {
    const auto number = [&](const std::string& variable) {
      return width > 0 ? "\"$(printf %0" + std::to_string(width) + "d \"" + variable + "\")\""
                       : "\"" + variable + "\"";
    };
    switch (letter) {
      case 'j':
      case 'J':
        return number("$SLURM_JOB_ID");
      case 'A':
        return number(task_.index ? "$SLURM_ARRAY_JOB_ID" : "$SLURM_JOB_ID");
      case 'a':
        return number(task_.index ? "$SLURM_ARRAY_TASK_ID" : "4294967294");
      case 'x':
        return quoted(job_.name);
      case 'u':
        return quoted(identity_.user);
      case 'N':
        return quoted(identity_.host);
      case 'n':
      case 't':
        return number("0");
      case 's':
        return "'batch'";
      default:
        return "";
    }
  }

  const SlurmJob& job_;
  const SlurmIdentity& identity_;
  const SlurmTask& task_;
};

using Variables = std::vector<std::pair<std::string, std::string>>;

Variables variables_of(const SlurmJob& job, const SlurmIdentity& identity) {
  const std::string cpus = std::to_string(job.tasks * job.cpus_per_task);
  const std::string tasks = std::to_string(job.tasks);
  Variables variables{{"SLURM_JOB_NAME", job.name},
                      {"SLURM_SUBMIT_DIR", job.submit_folder},
                      {"SLURM_SUBMIT_HOST", identity.host},
                      {"SLURM_JOB_USER", identity.user},
                      {"SLURM_JOB_UID", std::to_string(identity.uid)},
                      {"SLURM_JOB_GID", std::to_string(identity.gid)},
                      {"SLURM_CLUSTER_NAME", "loam"},
                      {"SLURM_JOB_NODELIST", identity.host},
                      {"SLURM_NODELIST", identity.host},
                      {"SLURMD_NODENAME", identity.host},
                      {"SLURM_JOB_NUM_NODES", "1"},
                      {"SLURM_NNODES", "1"},
                      {"SLURM_NODEID", "0"},
                      {"SLURM_PROCID", "0"},
                      {"SLURM_LOCALID", "0"},
                      {"SLURM_GTIDS", "0"},
                      {"SLURM_CPUS_ON_NODE", cpus},
                      {"SLURM_JOB_CPUS_PER_NODE", cpus},
                      {"SLURM_TASKS_PER_NODE", tasks},
                      {"ENVIRONMENT", "BATCH"}};
  if (job.says_tasks)
    variables.insert(variables.end(), {{"SLURM_NTASKS", tasks}, {"SLURM_NPROCS", tasks}});
  if (job.says_cpus)
    variables.emplace_back("SLURM_CPUS_PER_TASK", std::to_string(job.cpus_per_task));
  if (job.memory_mib) variables.emplace_back("SLURM_MEM_PER_NODE", std::to_string(*job.memory_mib));
  if (job.memory_per_cpu_mib)
    variables.emplace_back("SLURM_MEM_PER_CPU", std::to_string(*job.memory_per_cpu_mib));
  if (!job.account.empty()) variables.emplace_back("SLURM_JOB_ACCOUNT", job.account);
  for (const auto& [kind, amount] : job.devices)
    if (kind == "gpu") variables.emplace_back("SLURM_GPUS_ON_NODE", std::to_string(amount.count));
  if (job.array) {
    const auto& indexes = job.array->indexes;
    variables.insert(variables.end(), {{"SLURM_ARRAY_TASK_COUNT", std::to_string(indexes.size())},
                                       {"SLURM_ARRAY_TASK_MIN", std::to_string(indexes.front())},
                                       {"SLURM_ARRAY_TASK_MAX", std::to_string(indexes.back())},
                                       {"SLURM_ARRAY_TASK_STEP", std::to_string(job.array->step)}});
  }
  return variables;
}

}  // namespace

std::string slurm_start_script(const SlurmJob& job, const SlurmIdentity& identity,
                               const SlurmTask& task) {
  std::string text = "#!/bin/sh\n# Made by loam sbatch.\n";
  for (const auto& [name, value] : variables_of(job, identity))
    text += "export " + name + "=" + quoted(value) + "\n";
  text += "export SLURM_JOB_ID=\"$LOAM_RUN\" SLURM_JOBID=\"$LOAM_RUN\" SLURM_TASK_PID=$$\n";
  text += "[ \"$LOAM_ATTEMPT\" = 1 ] || export SLURM_RESTART_COUNT=$((LOAM_ATTEMPT - 1))\n";
  if (task.index)
    text += "export SLURM_ARRAY_TASK_ID=" + std::to_string(*task.index) + " SLURM_ARRAY_JOB_ID=" +
            (task.array_job > 0 ? std::to_string(task.array_job) : "\"$LOAM_RUN\"") + "\n";
  const Pattern pattern(job, identity, task);
  const std::string output = pattern.word(!job.output.empty() ? job.output
                                          : task.index        ? "slurm-%A_%a.out"
                                                              : "slurm-%j.out");
  // A folder that is not there, or a file that cannot be written, ends the job with its reason in
  // its own log: loam logs.
  text += "cd -- " + quoted(job.folder) + " || exit 1\n";
  text += "output=" + output + "\n";
  text += "case $output in /*) ;; *) output=$PWD/$output ;; esac\n";
  text += "printf 'output: %s\\n' \"$output\"\n";
  const std::string mode = job.append ? ">>" : ">";
  text += "exec <" + pattern.word(job.input.empty() ? "/dev/null" : job.input) + " || exit 1\n";
  if (job.error.empty())
    text += "exec " + mode + "\"$output\" 2>&1 || exit 1\n";
  else
    text += "error=" + pattern.word(job.error) + "\nexec 3" + mode +
            "\"$output\" || exit 1\nexec 2" + mode + "\"$error\" >&3 3>&- || exit 1\n";
  return text + "unset output error\nexec /project/slurm_script \"$@\"\n";
}

std::vector<std::string> slurm_folders(const SlurmJob& job) {
  std::vector<std::string> folders{job.submit_folder};
  const auto add = [&](const std::string& folder) {
    if (std::none_of(folders.begin(), folders.end(),
                     [&](const std::string& known) { return starts_with_path(folder, known); }))
      folders.push_back(folder);
  };
  add(job.folder);
  for (const std::string& path : {job.output, job.error}) {
    // Up to the part that holds a pattern.
    const std::string fixed = path.substr(0, path.find('%'));
    const auto slash = fixed.rfind('/');
    if (path.starts_with('/') && !path.starts_with("/dev/") && slash > 0)
      add(fixed.substr(0, slash));
  }
  return folders;
}

}  // namespace loam::cli
