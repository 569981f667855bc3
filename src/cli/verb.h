// What a verb of the command line is: plain data that parsing (parse.h), help and completion read
// alike, and the function that does it. One file per verb; verbs.cc lists them.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "boxes/box.h"
#include "cli/console.h"
#include "sched/policy.h"
#include "spec/node_config.h"

namespace loam::cli {

// Exit statuses (docs/cli.md). `loam run` and `loam shell` return their command's own.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;        // wrong usage or a wrong loam.yaml
inline constexpr int kExitUnavailable = 3;  // no node
inline constexpr int kExitPreempted = 75;   // EX_TEMPFAIL of sysexits.h: try again
inline constexpr int kExitTimedOut = 124;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitSignal = 128;  // and the signal's number
inline constexpr int kExitInterrupted = 130;
inline constexpr int kExitOutOfMemory = 137;

struct Option {
  std::string names;  // "-f,--file"; the long name without dashes is its key
  std::string value;  // what follows it, for help: "FILE"; "" for a flag
  std::string help;
  bool many = false;  // may be given several times
};

struct Positional {
  std::string name;  // "TARGET": its key
  std::string help;
  bool required = true;
  bool many = false;
};

class Arguments {
 public:
  bool flag(const std::string& key) const { return values_.contains(key); }
  bool has(const std::string& key) const { return values_.contains(key); }
  std::string value(const std::string& key, const std::string& fallback = "") const;
  std::vector<std::string> list(const std::string& key) const;
  void set(const std::string& key, std::vector<std::string> values) {
    values_[key] = std::move(values);
  }
  std::vector<std::string> command;  // what follows the options of a verb that takes a command

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

// What only the node's own code does, handed in by main/ (cli does not link it).
struct NodeCode {
  std::function<int(const std::vector<std::string>&)> main;  // run, purge: the words after "node"
  std::function<sched::Policy(const spec::NodeConfig&)> policy_for;
};

struct Context {
  Console& console;
  Arguments arguments;
  NodeCode node;
  std::optional<boxes::Box> box;  // of --on, once connected
  bool json() const { return arguments.flag("json"); }
};

struct Verb {
  std::string name;
  std::string summary;
  std::string examples;  // whole lines, each "loam …   what it does"
  std::vector<Option> options;
  std::vector<Positional> positionals;
  bool takes_command = false;        // "[--] CMD…" follows the options
  std::function<int(Context&)> run;  // none: only its verbs can be called
  std::vector<Verb> verbs;           // `loam store gc`
  std::string command_words;         // in place of "CMD…", for help
  bool here_only = false;            // about the machine that it runs on: no --on
};

// All of them, in the order in which help lists them.
const std::vector<Verb>& all_verbs();

inline Option json_option() { return {"--json", "", "print the state as JSON"}; }

}  // namespace loam::cli
