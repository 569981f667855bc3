// systemd, where it runs: which unit `loam node install` wrote, and how a node is started so that
// it has groups of its own to divide (recovery.md, "Cgroups").
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace loam::engines {

using Lookup = std::function<std::optional<std::string>(const char* name)>;
// From this process's environment; set but empty counts as unset.
std::optional<std::string> from_environment(const char* name);

// /etc/systemd/system/loam.service for root, else $XDG_CONFIG_HOME/systemd/user/loam.service.
std::string unit_path(unsigned uid, const Lookup& environment);
// systemd is pid 1 (sd_booted(3)), and for an ordinary user that user's own manager answers.
bool systemd_runs(unsigned uid, const Lookup& environment);

// What must hold for a start by systemd; looked up by start_command, given in tests.
struct StartFacts {
  bool systemd = false;
  std::string unit;       // the unit's text, "" for none
  bool unified = false;   // cgroup v2 alone
  std::string own_group;  // v2 line of /proc/self/cgroup: "/user.slice/…"
};
StartFacts read_start_facts(unsigned uid, const Lookup& environment);

// The command that starts a node in the background and ends when it listens or has failed: by its
// unit where one is installed for the same folders; a user's in a delegated scope where the
// caller's group (a login session's) is not the user's; else the program itself.
std::vector<std::string> start_command(const std::string& program, unsigned uid,
                                       const Lookup& environment, const StartFacts& facts);

// The program of ExecStart= or a word of Environment=, quoted (systemd.syntax(7)); % stays itself,
// $ is nothing special there.
std::string systemd_quoted(const std::string& word);

}  // namespace loam::engines
