// From a job to the AttemptPlan that its shim is handed: what the process sees, as whom, with what.
// Pure: facts in, plan out; the folders that a plan names are made by whoever starts it
// (make_work_folders(), work_folders.h).
//
//   STATE/outputs/JOB-N/   the work folder of the job's N-th attempt: project/ (the overlay's
//   upper), run/
//                          (metrics.jsonl), output/ (what becomes a model's version)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "node/paths.h"
#include "node/run_tables.h"
#include "sandbox/cgroup.h"
#include "spec/project.h"

namespace loam::node {

// A tree of the store as a job's user can read it: idmapped at mount, or a copy.
struct TreeView {
  std::string path;
  api::Owner owner = api::Owner::as_is;
};

// Facts of the host that plans need.
struct HostFiles {
  std::string resolv_conf;       // content
  std::string resolv_conf_path;  // where it really lies
  std::string hosts;
  std::string passwd, group;
  bool certificates = false;  // /etc/ssl/certs/ca-certificates.crt exists
};
HostFiles read_host_files();

struct PlanFacts {
  const NodeContext* node = nullptr;
  HostFiles host;
  std::string share_folder;    // share/loam: python/
  std::string program_folder;  // loam-gateway
};

struct UpstreamBind {
  std::string path;  // below /project
  TreeView tree;
};

struct PlanInputs {
  const RunRow* run = nullptr;
  const JobRow* job = nullptr;
  const spec::Project* project = nullptr;  // null: a command without loam.yaml
  int number = 1;                          // of the attempt
  std::string work;                        // STATE/outputs/JOB-N
  TreeView snapshot;
  std::string env_tree;  // path, "" for the host's files
  std::string pip_tree;  // base: host with pip: the tree with its packages
  bool env_has_certificates = false;
  std::string secrets_file;
  std::vector<UpstreamBind> upstream;
  std::vector<std::string> root_owned_mounts;  // `from` of rw mounts that belong to root
  std::string checkpoint_folder;               // STATE/checkpoints/JOB
  std::string resume_from;                     // the last completed checkpoint's name, "" for none
};

// The step's parameters, those of the task over them.
Json params_of(const spec::Step& step, const JobRow& job);

api::AttemptPlan plan_step(const PlanFacts& facts, const PlanInputs& inputs,
                           const spec::Step& step);
api::AttemptPlan plan_command(const PlanFacts& facts,
                              const PlanInputs& inputs);  // kinds command and shell
api::AttemptPlan plan_replica(const PlanFacts& facts, const PlanInputs& inputs,
                              const spec::Service& service, const TreeView& model,
                              const std::string& channel_folder);
api::AttemptPlan plan_gateway(const PlanFacts& facts, const PlanInputs& inputs,
                              const std::string& endpoint_folder);

sandbox::CgroupLimits limits_of(const api::AttemptPlan& plan);

}  // namespace loam::node
