#include "cli/slurm_options.h"

#include <algorithm>

#include "base/text.h"
#include "cli/parse.h"

namespace loam::cli {
namespace {

constexpr std::size_t kSrunNamed = 3;

const SlurmOption* find_option(std::string_view name) {
  const auto& all = slurm_options();
  const auto found = std::find_if(all.begin(), all.end(), [&](const SlurmOption& one) {
    return name == one.name || (name.size() == 1 && name[0] == one.letter);
  });
  return found == all.end() ? nullptr : &*found;
}

// Words of a #SBATCH line, quotes taken away; a "#" that begins a word ends it.
std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char one = line[i];
    if (quote != 0) {
      if (one == quote)
        quote = 0;
      else
        word += one;
    } else if (one == '\'' || one == '"') {
      quote = one;
      in_word = true;
    } else if (one == '\\' && i + 1 < line.size()) {
      word += line[++i];
      in_word = true;
    } else if (one == ' ' || one == '\t') {
      if (in_word) words.push_back(std::exchange(word, ""));
      in_word = false;
    } else if (one == '#' && !in_word) {
      break;
    } else {
      word += one;
      in_word = true;
    }
  }
  if (in_word) words.push_back(word);
  return words;
}

tl::unexpected<Error> wrong(const std::string& place, const std::string& text) {
  return fail(ErrorCode::invalid, place + ": " + text);
}

tl::unexpected<Error> unknown(const std::string& place, const std::string& name) {
  std::vector<std::string> names;
  for (const SlurmOption& one : slurm_options()) names.emplace_back(one.name);
  const std::string near = nearest(name.substr(0, name.find('=')), names);
  return wrong(place, "found '" + printable(name) + "', expected an option of sbatch" +
                          (near.empty() ? "" : "; did you mean '--" + near + "'?"));
}

// One option at words[at]; moves `at` past it.
Result<void> take_option(const std::vector<std::string>& words, std::size_t& at,
                         const std::string& place, SlurmValues& values) {
  const std::string word = words[at++];
  const bool is_long = word.starts_with("--");
  if (!is_long && (word.size() < 2 || word[0] != '-')) return unknown(place, word);
  const auto equals = is_long ? word.find('=') : std::string::npos;
  const std::string name = is_long
                               ? word.substr(2, equals == std::string::npos ? equals : equals - 2)
                               : word.substr(1, 1);
  const SlurmOption* option = find_option(name);
  if (option == nullptr || (is_long && name.size() == 1)) return unknown(place, word);
  std::string& value = values[option->name];
  if (equals != std::string::npos) {
    value = word.substr(equals + 1);
  } else if (!is_long && word.size() > 2) {
    value = word.substr(2);
  } else if (option->without != nullptr) {
    value = option->without;
  } else if (*option->value == '\0') {
    value = "";
  } else if (at < words.size()) {
    value = words[at++];
  } else {
    return wrong(place,
                 "--" + std::string(option->name) + ": expected " + option->value + " after it");
  }
  return {};
}

bool calls_srun(std::string_view line) {
  line = trim(line);
  for (const std::string_view before : {"exec ", "time "})
    if (line.starts_with(before)) line.remove_prefix(before.size());
  return line == "srun" || line.starts_with("srun ") || line.starts_with("mpirun ");
}

}  // namespace

const std::vector<SlurmOption>& slurm_options() {
  static const std::vector<SlurmOption> options{
      {"job-name", 'J', "NAME", "its name (the script's file name)"},
      {"time", 't', "TIME", "end it after this long: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM:SS"},
      {"mem", 0, "SIZE", "memory, in MiB or with K, M, G, T (1G)"},
      {"mem-per-cpu", 0, "SIZE", "memory for each CPU"},
      {"mem-per-gpu", 0, "SIZE", "memory for each GPU"},
      {"cpus-per-task", 'c', "N", "CPUs of each task (1)"},
      {"ntasks", 'n', "N", "tasks: CPUs for that many (1)"},
      {"ntasks-per-node", 0, "N", "the same, on one machine"},
      {"nodes", 'N', "N", "1: there is one"},
      {"gpus", 'G', "[MODEL:]N", "GPUs"},
      {"gpus-per-node", 0, "[MODEL:]N", "GPUs"},
      {"gpus-per-task", 0, "[MODEL:]N", "GPUs of each task"},
      {"gres", 0, "gpu[:MODEL][:N]", "GPUs, and devices that the node declares"},
      {"output", 'o', "PATTERN", "where its output goes (slurm-%j.out)"},
      {"error", 'e', "PATTERN", "where its standard error goes (with the output)"},
      {"input", 'i', "FILE", "what its standard input is (/dev/null)"},
      {"open-mode", 0, "MODE", "append or truncate (truncate)"},
      {"chdir", 'D', "FOLDER", "where it runs (here)"},
      {"export", 0, "NAMES", "ALL, NONE, NAME, NAME=VALUE, separated by commas (ALL)"},
      {"array", 'a', "INDEXES", "a job for each: 0-15, 1,3,7, 0-30:5"},
      {"dependency", 'd', "LIST",
       "only after:, afterany:, afterok:, afternotok: of jobs that have ended"},
      {"account", 'A', "NAME", "the account that it counts against"},
      {"nice", 0, "N", "after others, by so much", "100"},
      {"hold", 'H', "", "it waits until loam release"},
      {"requeue", 0, "", "as always: it starts again where the machine was lost"},
      {"wait", 'W', "", "return when it has ended, with its exit status"},
      {"parsable", 0, "", "print the number alone"},
      {"wrap", 0, "COMMAND", "a command instead of FILE"},
      {"quiet", 'Q', "", "print nothing but errors"},
      // Known, and named where they are asked for.
      {"acctg-freq", 0, "LIST"},
      {"bb", 0, "SPEC"},
      {"bbf", 0, "FILE"},
      {"batch", 0, "LIST"},
      {"begin", 'b', "TIME"},
      {"clusters", 'M', "NAMES"},
      {"cluster-constraint", 0, "LIST"},
      {"comment", 0, "TEXT"},
      {"constraint", 'C', "LIST"},
      {"container", 0, "PATH"},
      {"contiguous", 0, ""},
      {"core-spec", 'S', "N"},
      {"cores-per-socket", 0, "N"},
      {"cpu-freq", 0, "SPEC"},
      {"cpus-per-gpu", 0, "N"},
      {"deadline", 0, "TIME"},
      {"delay-boot", 0, "MINUTES"},
      {"distribution", 'm', "SPEC"},
      {"exclude", 'x', "NODES"},
      {"exclusive", 0, "WHOM", "", ""},
      {"extra-node-info", 'B', "SPEC"},
      {"export-file", 0, "FILE"},
      {"get-user-env", 0, "SPEC", "", ""},
      {"gpu-bind", 0, "SPEC"},
      {"gpu-freq", 0, "SPEC"},
      {"gpus-per-socket", 0, "N"},
      {"gres-flags", 0, "SPEC"},
      {"hint", 0, "SPEC"},
      {"ignore-pbs", 0, ""},
      {"kill-on-invalid-dep", 0, "YES"},
      {"licenses", 'L', "LIST"},
      {"mail-type", 0, "WHEN"},
      {"mail-user", 0, "WHOM"},
      {"mcs-label", 0, "NAME"},
      {"mem-bind", 0, "SPEC"},
      {"mincpus", 0, "N"},
      {"network", 0, "SPEC"},
      {"no-kill", 'k', "OFF", "", ""},
      {"no-requeue", 0, ""},
      {"nodefile", 'F', "FILE"},
      {"nodelist", 'w', "NODES"},
      {"ntasks-per-core", 0, "N"},
      {"ntasks-per-gpu", 0, "N"},
      {"ntasks-per-socket", 0, "N"},
      {"overcommit", 'O', ""},
      {"oversubscribe", 's', ""},
      {"partition", 'p', "NAMES"},
      {"power", 0, "SPEC"},
      {"prefer", 0, "LIST"},
      {"priority", 0, "N"},
      {"profile", 0, "SPEC"},
      {"propagate", 0, "LIMITS", "", "ALL"},
      {"qos", 'q', "NAME"},
      {"reboot", 0, ""},
      {"reservation", 0, "NAMES"},
      {"signal", 0, "SPEC"},
      {"sockets-per-node", 0, "N"},
      {"spread-job", 0, ""},
      {"switches", 0, "SPEC"},
      {"thread-spec", 0, "N"},
      {"threads-per-core", 0, "N"},
      {"time-min", 0, "TIME"},
      {"tmp", 0, "SIZE"},
      {"uid", 0, "USER"},
      {"use-min-nodes", 0, ""},
      {"verbose", 'v', ""},
      {"wait-all-nodes", 0, "N"},
      {"wckey", 0, "KEY"}};
  return options;
}

Result<SlurmScript> parse_slurm_script(std::string_view text, const std::string& shown) {
  if (text.size() > kScriptBytesMax)
    return fail(ErrorCode::too_large, shown + ": over " + format_size(kScriptBytesMax));
  if (!text.starts_with("#!"))
    return wrong(shown + ":1",
                 "expected a batch script, whose first line is #! and the path of an "
                 "interpreter, such as #!/bin/sh");
  if (!is_utf8(text) || text.find('\0') != std::string_view::npos)
    return wrong(shown, "found bytes that are no UTF-8 text, expected a script");
  SlurmScript script;
  script.text = text;
  bool in_head = true;  // options stand before the first command
  std::size_t number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    const std::string place = shown + ":" + std::to_string(number);
    if (number == 1 && line.ends_with('\r'))
      return wrong(place, "found lines that end as in DOS, expected a script; dos2unix mends it");
    if (in_head && line.starts_with("#SBATCH") &&
        (line.size() == 7 || line[7] == ' ' || line[7] == '\t')) {
      const auto words = words_of(std::string_view(line).substr(7));
      for (std::size_t at = 0; at < words.size();)
        LOAM_CHECK(take_option(words, at, place, script.values));
      continue;
    }
    const std::string_view trimmed = trim(line);
    if (!trimmed.empty() && trimmed[0] != '#') in_head = false;
    if (script.calls_srun.size() < kSrunNamed && calls_srun(line))
      script.calls_srun.push_back(place);
  }
  return script;
}

std::vector<Option> slurm_verb_options() {
  std::vector<Option> options;
  for (const SlurmOption& one : slurm_options()) {
    const std::string letter = one.letter == 0 ? "" : std::string("-") + one.letter + ",";
    options.push_back({letter + "--" + one.name, one.value,
                       *one.help == '\0' ? "not honoured, and named" : one.help, true});
  }
  return options;
}

SlurmValues slurm_values(const Arguments& arguments) {
  SlurmValues values;
  for (const SlurmOption& one : slurm_options())
    if (arguments.has(one.name)) values[one.name] = arguments.value(one.name);
  return values;
}

}  // namespace loam::cli
