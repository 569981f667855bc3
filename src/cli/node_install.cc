// `loam node install`: files, then the service manager. Each step may be repeated; what is as it
// should be is left alone.
#include <poll.h>
#include <unistd.h>

#include "base/files.h"
#include "base/text.h"
#include "cli/installation.h"
#include "cli/node_verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

std::string this_program() { return program_folder() + "/loam"; }

// Where the program is a package's, so are the completion files.
bool package_completes() {
  for (const InstalledFile& file :
       completion_files(program_share_folder().substr(0, program_share_folder().rfind('/'))))
    if (!path_exists(file.path)) return false;
  return true;
}

std::vector<InstalledFile> files_of(const Installation& installation) {
  UnitOptions unit{.program = this_program(), .user = installation.user, .environment = {}};
  // The unit's node is the one that commands with this environment ask.
  for (const char* name : {"LOAM_STATE_DIR", "LOAM_RUNTIME_DIR", "LOAM_NODE_CONFIG"})
    if (const char* value = ::getenv(name); value != nullptr && value[0] != '\0')
      unit.environment.push_back(std::string(name) + "=" + value);
  std::vector<InstalledFile> files{{installation.unit_path, service_unit(unit)}};
  if (!package_completes())
    for (InstalledFile& file : completion_files(installation.share))
      files.push_back(std::move(file));
  return files;
}

Result<bool> write_if_other(const InstalledFile& file) {
  const auto there = read_file(file.path);
  if (there && *there == file.content) return false;
  LOAM_CHECK(make_folders(file.path.substr(0, file.path.rfind('/')), 0755));
  LOAM_CHECK(write_file_atomic(file.path, file.content, {.mode = 0644}));
  return true;
}

int show(Context& context, const Installation& installation) {
  for (const InstalledFile& file : files_of(installation)) {
    const auto there = read_file(file.path);
    const bool same = there && *there == file.content;
    context.console.print((same ? "unchanged " : "would write ") + file.path);
    if (!same && file.path == installation.unit_path) context.console.print_text(file.content);
  }
  context.console.print(systemd_runs(installation)
                            ? "would enable and start loam.service"
                            : "no systemd runs here: nothing would be enabled or started");
  return kExitOk;
}

// A node that was started by hand gives way to the unit's; its jobs go on and are found again.
Result<void> stop_other_node(const Installation& installation) {
  const auto node = engines::find_node();
  if (!node) return {};
  const Json state = LOAM_TRY(node->call("GET", "/v1/node"));
  const std::string main =
      LOAM_TRY(systemctl(installation, {"show", "--property=MainPID", "--value", "loam.service"}));
  if (std::string(trim(main)) == plain_text(state["pid"])) return {};
  return stop_node(*node, {.jobs = false});
}

Result<void> enable(const Installation& installation, bool unit_changed) {
  LOAM_CHECK(systemctl(installation, {"daemon-reload"}));
  LOAM_CHECK(systemctl(installation, {"enable", "loam.service"}));
  LOAM_CHECK(stop_other_node(installation));
  LOAM_CHECK(systemctl(installation, {unit_changed ? "restart" : "start", "loam.service"}));
  return {};
}

void tell_of_logout(Context& context, const Installation& installation) {
  const char* name = ::getenv("USER");
  if (!installation.user || name == nullptr ||
      path_exists(std::string("/var/lib/systemd/linger/") + name))
    return;
  context.console.print("it ends when you log out; to keep it: loginctl enable-linger");
}

int install(Context& context) {
  const auto installation = find_installation(context.arguments.flag("user"));
  if (!installation) return report(context, installation.error());
  if (context.arguments.flag("dry-run")) return show(context, *installation);
  bool unit_changed = false;
  for (const InstalledFile& file : files_of(*installation)) {
    const auto wrote = write_if_other(file);
    if (!wrote) return report(context, wrote.error());
    context.console.print((*wrote ? "wrote " : "unchanged ") + file.path);
    if (file.path == installation->unit_path) unit_changed = *wrote;
  }
  if (!systemd_runs(*installation)) {
    context.console.print(
        "no systemd runs here: nothing was enabled; start the node with: loam node start");
    return kExitOk;
  }
  if (const auto enabled = enable(*installation, unit_changed); !enabled)
    return report(context, enabled.error());
  context.console.print("loam.service is enabled and runs: systemctl " +
                        std::string(installation->user ? "--user " : "") + "status loam");
  tell_of_logout(context, *installation);
  return kExitOk;
}

}  // namespace

Verb node_install_verb() {
  return {"install",
          "a systemd unit that starts it with the machine, and completion files",
          "sudo loam node install\nloam node install --user\nloam node install --dry-run",
          {{"--user", "", "your own node, started with your session"},
           {"--dry-run", "", "print what would be written and done"}},
          {},
          false,
          install,
          {}};
}

}  // namespace loam::cli
