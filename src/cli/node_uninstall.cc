// `loam node uninstall [--purge]`: stop, take the files of `install` away, and with --purge all
// that the node ever kept (node/purge.h).
#include <unistd.h>

#include "base/files.h"
#include "cli/installation.h"
#include "cli/node_verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

// Refused while jobs run: their end would come as a surprise to those who wait for them.
Result<void> stop_running(Context& context) {
  const auto node = engines::find_node();
  if (!node)
    return node.error().code == ErrorCode::unavailable ? Result<void>()
                                                       : tl::unexpected(node.error());
  const Json state = LOAM_TRY(node->call("GET", "/v1/node"));
  const std::int64_t jobs = state["jobs"]["running"].as_int();
  const bool force = context.arguments.flag("force");
  if (jobs > 0 && !force)
    return fail(ErrorCode::busy,
                std::to_string(jobs) + (jobs == 1 ? " job runs" : " jobs run") +
                    " here (loam ps): cancel them and end services with loam down, "
                    "or end all with --force");
  LOAM_CHECK(stop_node(*node, {.jobs = force}));
  context.console.print("stopped the node");
  return {};
}

Result<void> remove_files(Context& context, const Installation& installation) {
  std::vector<InstalledFile> files = completion_files(installation.share);
  files.push_back({installation.unit_path, ""});
  for (const InstalledFile& file : files) {
    if (::unlink(file.path.c_str()) == 0)
      context.console.print("removed " + file.path);
    else if (errno != ENOENT)
      return fail_errno(file.path);
  }
  return {};
}

Result<void> take_away(Context& context, const Installation& installation) {
  const bool managed = systemd_runs(installation) && path_exists(installation.unit_path);
  LOAM_CHECK(stop_running(context));
  if (managed) LOAM_CHECK(systemctl(installation, {"disable", "--now", "loam.service"}));
  LOAM_CHECK(remove_files(context, installation));
  if (managed) LOAM_CHECK(systemctl(installation, {"daemon-reload"}));
  return {};
}

int uninstall(Context& context) {
  const Arguments& arguments = context.arguments;
  const bool purge = arguments.flag("purge");
  if (purge && context.console.input_terminal() && !arguments.flag("yes"))
    return report(context,
                  {ErrorCode::invalid,
                   "--purge removes every run, model, environment and secret that this node "
                   "keeps (loam node backup FILE keeps a copy): say --yes"});
  // Without root an ordinary user means the own node: there is no other that could be meant.
  const auto installation = find_installation(::geteuid() != 0);
  if (!installation) return report(context, installation.error());
  if (const auto gone = take_away(context, *installation); !gone)
    return report(context, gone.error());
  if (!purge) return kExitOk;
  std::vector<std::string> words{"purge"};
  if (arguments.flag("force")) words.emplace_back("--force");
  return context.node.main(words);
}

}  // namespace

Verb node_uninstall_verb() {
  return {"uninstall",
          "stop it and remove what install wrote; with --purge all that it keeps",
          "sudo loam node uninstall\nloam node uninstall --purge --yes",
          {{"--purge", "", "also runs, models, environments, secrets: everything"},
           {"--yes", "", "with --purge, on a terminal: yes"},
           {"--force", "", "end running jobs and services first, instead of refusing"}},
          {},
          false,
          uninstall,
          {}};
}

}  // namespace loam::cli
