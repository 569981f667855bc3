#include "shim/plan.h"

#include <algorithm>

namespace loam::shim {

namespace {

// As torchrun names it (docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables").
sandbox::Rank rank_of(const api::RankPlan& plan, std::size_t rank, std::size_t ranks,
                      std::uint16_t port) {
  sandbox::Rank made{.environment = plan.environment, .cpus = plan.cpus};
  for (const char* name : {"RANK", "LOCAL_RANK"})
    made.environment.emplace_back(name, std::to_string(rank));
  for (const char* name : {"WORLD_SIZE", "LOCAL_WORLD_SIZE"})
    made.environment.emplace_back(name, std::to_string(ranks));
  made.environment.emplace_back("MASTER_ADDR", "127.0.0.1");
  made.environment.emplace_back("MASTER_PORT", std::to_string(port));
  return made;
}

}  // namespace

sandbox::Spec sandbox_spec(const api::AttemptPlan& plan, std::uint16_t rendezvous_port) {
  sandbox::Spec spec;
  spec.argv = plan.argv;
  spec.environment = plan.environment;
  for (std::size_t i = 0; i < plan.ranks.size(); ++i)
    spec.ranks.push_back(rank_of(plan.ranks[i], i, plan.ranks.size(), rendezvous_port));
  spec.lane = plan.lane.has_value();
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
  for (const api::DevicePlan& device : plan.devices)
    spec.devices.push_back({.path = device.path,
                            .block = device.block,
                            .major_number = device.major_number,
                            .minor_number = device.minor_number});
  spec.cpu_set = {.cpus = plan.cpus, .memory_nodes = plan.memory_nodes, .pinned = plan.pinned};
  spec.huge_page_bytes = plan.huge_page_bytes;
  spec.huge_bytes = plan.huge_bytes;
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

std::vector<api::MissingGuard> missing_guards(const api::AttemptPlan& plan,
                                              const sandbox::Sandbox& sandbox) {
  std::vector<api::MissingGuard> missing = plan.missing;
  for (const sandbox::Missing& one : sandbox.missing) missing.push_back({one.guard, one.reason});
  return missing;
}

}  // namespace loam::shim
