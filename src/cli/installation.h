// What `loam node install` puts on a machine and `loam node uninstall` takes away again: a systemd
// unit and completion files. The system's, or one user's.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace loam::cli {

struct Installation {
  bool user = false;
  std::string unit_path;  // /etc/systemd/system/loam.service, or the user's
  std::string share;      // /usr/local/share, or $XDG_DATA_HOME: completion files lie below it
};

// denied: an ordinary user asks for the system's; invalid: root asks for a user's.
Result<Installation> find_installation(bool user);

struct InstalledFile {
  std::string path;
  std::string content;
};

struct UnitOptions {
  std::string program;  // absolute
  bool user = false;
  std::vector<std::string> environment;  // "NAME=value"
};
// The unit's text (systemd.unit(5), systemd.service(5)).
std::string service_unit(const UnitOptions& options);
// For bash, zsh and fish, in the folders that these look through by themselves.
std::vector<InstalledFile> completion_files(const std::string& share);

bool systemd_runs(const Installation& installation);
// `systemctl [--user] WORDS…`; its standard output. unavailable: it failed, with what it said.
Result<std::string> systemctl(const Installation& installation, std::vector<std::string> words);

}  // namespace loam::cli
