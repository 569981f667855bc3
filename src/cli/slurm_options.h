// The options of a Slurm batch script: what each is called, whether it is honoured, and what a
// script's #SBATCH lines say.
//
// Source: sbatch(1) of Slurm 22.05. Trust: the script is the caller's own file; it is limited and
// named by line where it is wrong.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/verb.h"

namespace loam::cli {

inline constexpr std::size_t kScriptBytesMax = 4u << 20;  // as Slurm's own MaxScriptSize

struct SlurmOption {
  const char* name;               // "cpus-per-task"
  char letter = 0;                // 'c'
  const char* value = "";         // "N"; "" for a flag
  const char* help = "";          // "": not honoured
  const char* without = nullptr;  // taken where a value may be left out, in a script
};
const std::vector<SlurmOption>& slurm_options();

// By long name. A later value takes the place of an earlier one.
using SlurmValues = std::map<std::string, std::string>;

struct SlurmScript {
  std::string text;
  SlurmValues values;
  std::vector<std::string> calls_srun;  // "FILE:12", at most a few
};
// invalid: no "#!" line, an option that sbatch does not have, a value that is missing.
Result<SlurmScript> parse_slurm_script(std::string_view text, const std::string& shown);

std::vector<Option> slurm_verb_options();
// Those that were given to the verb.
SlurmValues slurm_values(const Arguments& arguments);

}  // namespace loam::cli
