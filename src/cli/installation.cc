#include "cli/installation.h"

#include <unistd.h>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/completion.h"
#include "cli/verb.h"
#include "engines/service_manager.h"

namespace loam::cli {
namespace {

// A folder of the XDG base directory specification.
std::string data_home() {
  if (const auto folder = engines::from_environment("XDG_DATA_HOME")) return *folder;
  return engines::from_environment("HOME").value_or("") + "/.local/share";
}

// A root node needs what it has for namespaces, ids, cgroups and mounts; the rest would only serve
// somebody who broke into it. More of systemd's hardening reaches the jobs (its seccomp filters are
// inherited) or hides projects (ProtectHome=, PrivateTmp=).
constexpr const char* kSystemHardening =
    "CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_WAKE_ALARM "
    "CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_MAC_ADMIN CAP_MAC_OVERRIDE\n";

}  // namespace

Result<Installation> find_installation(bool user) {
  const bool root = ::geteuid() == 0;
  if (user && root)
    return fail(ErrorCode::invalid,
                "--user is for an ordinary user's own node; root's is the system's");
  if (!user && !root)
    return fail(ErrorCode::denied,
                "the system's node is root's (sudo); your own node: loam node install --user");
  return Installation{user, engines::unit_path(::geteuid(), engines::from_environment),
                      root ? "/usr/local/share" : data_home()};
}

// KillMode=process: shims are children of the node and must outlive it (recovery.md). Delegate: the
// groups below are ours. OOMPolicy: a job's end by the kernel is not the node's.
std::string service_unit(const UnitOptions& options) {
  std::string text =
      "# Written by `loam node install`; `systemctl edit loam` adds to it, `loam node uninstall` "
      "removes it.\n"
      "[Unit]\n"
      "Description=Loam node\n"
      "Documentation=man:loam(1)\n"
      "StartLimitIntervalSec=300\n"
      "StartLimitBurst=5\n";
  if (!options.user)
    text +=
        "Wants=network-online.target\n"
        "After=network-online.target nss-user-lookup.target\n";
  text +=
      "\n[Service]\n"
      "Type=notify\n"
      "ExecStart=" +
      engines::systemd_quoted(options.program) +
      " node run\n"
      "ExecReload=/bin/kill -HUP $MAINPID\n"
      "KillMode=process\n"
      "Delegate=yes\n"
      "OOMPolicy=continue\n"
      "TasksMax=infinity\n"
      "Restart=on-failure\n"
      "RestartSec=2\n"
      "TimeoutStartSec=5min\n";
  for (const std::string& one : options.environment)
    text += "Environment=" + engines::systemd_quoted(one) + "\n";
  if (!options.user) text += kSystemHardening;
  text += std::string("\n[Install]\nWantedBy=") +
          (options.user ? "default.target" : "multi-user.target") + "\n";
  return text;
}

std::vector<InstalledFile> completion_files(const std::string& share) {
  return {{share + "/bash-completion/completions/loam", bash_completion(all_verbs())},
          {share + "/zsh/site-functions/_loam", zsh_completion(all_verbs())},
          {share + "/fish/vendor_completions.d/loam.fish", fish_completion(all_verbs())}};
}

bool systemd_runs(const Installation&) {
  return engines::systemd_runs(::geteuid(), engines::from_environment);
}

Result<std::string> systemctl(const Installation& installation, std::vector<std::string> words) {
  SpawnOptions options;
  options.argv = {"systemctl"};
  if (installation.user) options.argv.push_back("--user");
  options.argv.insert(options.argv.end(), words.begin(), words.end());
  Output output = LOAM_TRY(run_collect(options));
  if (!output.ok())
    return fail(ErrorCode::unavailable,
                join(options.argv, " ") + ": " + printable(trim(output.standard_error)));
  return std::move(output.standard_output);
}

}  // namespace loam::cli
