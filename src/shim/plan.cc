#include "shim/plan.h"

#include <algorithm>

namespace loam::shim {

sandbox::Spec sandbox_spec(const api::AttemptPlan& plan) {
  sandbox::Spec spec;
  spec.argv = plan.argv;
  spec.environment = plan.environment;
  spec.secrets_file = plan.secrets_file;
  spec.directory = plan.directory;
  spec.ids = {.uid = plan.uid, .gid = plan.gid, .groups = plan.groups};
  spec.hostname = plan.hostname;
  if (plan.root == api::RootKind::tree) spec.root_tree = plan.root_tree;
  spec.masks = plan.root_masks;
  if (plan.scratch == api::Scratch::disk) spec.scratch_folder = plan.scratch_folder;
  spec.project_tree = plan.project_tree;
  spec.project_root_is_user = plan.project_owner == api::Owner::root_is_user;
  spec.project_upper = plan.project_tree.empty() ? "" : plan.project_upper;
  for (const api::BindPlan& bind : plan.binds)
    spec.binds.push_back({.from = bind.from,
                          .to = bind.to,
                          .writable = bind.writable,
                          .root_is_user = bind.owner == api::Owner::root_is_user,
                          .opened_as_user = bind.opened_as_user});
  for (const api::GeneratedFile& file : plan.files) spec.files.push_back({file.path, file.content});
  spec.own_network = plan.network == api::Network::none;
  spec.cgroup = {.v2 = plan.cgroup.v2, .v1 = plan.cgroup.v1};
  spec.memory_bytes = plan.memory_bytes;
  spec.cpu_milli = plan.cpu_milli;
  spec.processes_max = plan.processes_max;
  spec.shm_bytes = plan.shm_bytes;
  spec.terminal = plan.terminal;
  spec.standard_input = plan.standard_input && !plan.terminal;
  return spec;
}

std::string unmet_requirement(const api::AttemptPlan& plan,
                              const std::vector<api::MissingGuard>& missing) {
  for (const std::string& guard : plan.require) {
    const auto found =
        std::find_if(missing.begin(), missing.end(),
                     [&](const api::MissingGuard& one) { return one.guard == guard; });
    if (found == missing.end()) continue;
    const std::string mend = sandbox::mend_for(guard);
    return "sandbox: require names '" + guard + "', which this host cannot give (" + found->reason +
           ")" + (mend.empty() ? "" : "; mend: " + mend);
  }
  return "";
}

std::vector<api::MissingGuard> missing_guards(const sandbox::Sandbox& sandbox) {
  std::vector<api::MissingGuard> missing;
  for (const sandbox::Missing& one : sandbox.missing) missing.push_back({one.guard, one.reason});
  return missing;
}

}  // namespace loam::shim
