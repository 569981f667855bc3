#include "node/plan.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/files.h"
#include "base/text.h"
#include "env/env.h"
#include "node/job_request.h"

namespace loam::node {
namespace {

constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr const char* kThreadVariables[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                            "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"};
constexpr std::uint64_t kShmBytesWithoutLimit = 1ull << 30;
constexpr std::size_t kHostnameBytesMax = 63;

using Environment = std::map<std::string, std::string>;

std::vector<std::uint32_t> group_ids(const Json& groups) {
  std::vector<std::uint32_t> ids;
  for (const Json& group : groups.as_array())
    ids.push_back(static_cast<std::uint32_t>(group.as_int()));
  return ids;
}

std::string hostname_of(const RunRow& run) {
  std::string name;
  for (const char c : run.project)
    name += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '-';
  name = name.substr(0, kHostnameBytesMax - 12) + "-" + std::to_string(run.id);
  if (name.front() == '-') name.insert(0, "loam");
  return name;
}

bool has_line_for(const std::string& table, std::uint32_t id) {
  const std::string field = std::to_string(id);
  for (const std::string& line : split(table, '\n')) {
    const auto parts = split(line, ':');
    if (parts.size() > 2 && parts[2] == field) return true;
  }
  return false;
}

// base: host keeps the host's tables, so that names of files' owners show, and gains a line where
// the id has none.
std::string passwd_for(const PlanFacts& facts, const PlanInputs& inputs) {
  const RunRow& run = *inputs.run;
  const std::string id = std::to_string(run.job_uid);
  std::string table = inputs.env_tree.empty()
                          ? facts.host.passwd
                          : "root:x:0:0:root:/root:/bin/sh\n"
                            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
  if (!has_line_for(table, run.job_uid))
    table += run.job_user + ":x:" + id + ":" + std::to_string(run.job_gid) + ":" + run.job_user +
             ":/loam/home:/bin/sh\n";
  return table;
}

std::string group_for(const PlanFacts& facts, const PlanInputs& inputs) {
  std::string table = inputs.env_tree.empty() ? facts.host.group : "root:x:0:\nnogroup:x:65534:\n";
  if (!has_line_for(table, inputs.run->job_gid))
    table += inputs.run->job_user + ":x:" + std::to_string(inputs.run->job_gid) + ":\n";
  return table;
}

void add_files(api::AttemptPlan& plan, const PlanFacts& facts, const PlanInputs& inputs) {
  plan.files.push_back({"/etc/passwd", passwd_for(facts, inputs)});
  plan.files.push_back({"/etc/group", group_for(facts, inputs)});
  plan.files.push_back({"/etc/hostname", plan.hostname + "\n"});
  plan.files.push_back({"/etc/hosts", facts.host.hosts + "127.0.1.1 " + plan.hostname + "\n"});
  if (!inputs.env_tree.empty()) {
    plan.files.push_back({"/etc/resolv.conf", facts.host.resolv_conf});
  } else if (facts.host.resolv_conf_path.starts_with("/run/")) {
    plan.files.push_back(
        {facts.host.resolv_conf_path, facts.host.resolv_conf});  // the job's /run is empty
  }
}

void add_environment_tree(api::AttemptPlan& plan, const PlanFacts& facts,
                          const PlanInputs& inputs) {
  if (!inputs.env_tree.empty()) {
    plan.root = api::RootKind::tree;
    plan.root_tree = inputs.env_tree;
    if (!inputs.env_has_certificates && facts.host.certificates)
      plan.binds.push_back({.from = "/etc/ssl/certs", .to = "/etc/ssl/certs"});
  }
  if (!inputs.pip_tree.empty())
    plan.binds.push_back({.from = inputs.pip_tree, .to = std::string(env::kHostPipMount)});
}

void add_mounts(api::AttemptPlan& plan, const PlanInputs& inputs) {
  const bool as_user = inputs.run->reader_uid != 0;  // a project of root's own is opened as root
  for (const spec::Mount& mount : inputs.project->mounts) {
    const bool writable = mount.mode == spec::MountMode::rw;
    const auto& owned = inputs.root_owned_mounts;
    const bool idmapped =
        writable && std::find(owned.begin(), owned.end(), mount.from) != owned.end();
    plan.binds.push_back({.from = mount.from,
                          .to = mount.to,
                          .writable = writable,
                          .owner = idmapped ? api::Owner::root_is_user : api::Owner::as_is,
                          .opened_as_user = as_user});
  }
}

// Data is left out of the snapshot; it shows at its own place, read-only.
void add_data(api::AttemptPlan& plan, const PlanInputs& inputs) {
  const bool as_user = inputs.run->reader_uid != 0;
  std::vector<std::string> bound;
  for (const spec::DataSource& source : inputs.project->data) {
    std::vector<std::string> paths{spec::pattern_folder(source.files)};
    if (paths[0].empty()) paths = inputs.run->data[source.name]["files"].as_strings();
    for (const std::string& path : paths) {
      if (std::find(bound.begin(), bound.end(), path) != bound.end()) continue;
      bound.push_back(path);
      plan.binds.push_back({.from = inputs.run->folder + "/" + path,
                            .to = "/project/" + path,
                            .opened_as_user = as_user});
    }
  }
}

Environment base_environment(const PlanInputs& inputs, const api::AttemptPlan& plan) {
  Environment environment{{"PATH", kPath},
                          {"HOME", "/loam/home"},
                          {"USER", inputs.run->job_user},
                          {"LOGNAME", inputs.run->job_user},
                          {"LANG", "C.UTF-8"},
                          {"TZ", "UTC"},
                          {"PYTHONUNBUFFERED", "1"}};
  const std::uint32_t threads = std::max(1u, plan.cpu_milli / 1000);
  for (const char* name : kThreadVariables) environment[name] = std::to_string(threads);
  if (inputs.project != nullptr)
    for (const auto& [name, value] : inputs.project->vars) environment[name] = value;
  return environment;
}

// What Loam itself says comes last: vars cannot replace it.
void finish_environment(api::AttemptPlan& plan, const PlanInputs& inputs, Environment environment) {
  std::string python = "/loam/python";
  if (!inputs.pip_tree.empty()) {
    python += ":" + std::string(env::kHostPipSite);
    environment["PATH"] = std::string(env::kHostPipCommands) + ":" + environment["PATH"];
  }
  if (const auto own = environment.find("PYTHONPATH"); own != environment.end())
    python += ":" + own->second;
  environment["PYTHONPATH"] = python;
  environment["LOAM_RUN"] = std::to_string(inputs.run->id);
  environment["LOAM_STEP"] = inputs.job->step_name();
  if (inputs.job->task != 0) environment["LOAM_TASK"] = std::to_string(inputs.job->task);
  environment["LOAM_ATTEMPT"] = std::to_string(inputs.number);
  environment["LOAM_METRICS"] = "/loam/run/metrics.jsonl";
  plan.environment.assign(environment.begin(), environment.end());
}

// Everything but argv, environment, resources and what one kind alone sees.
api::AttemptPlan common_plan(const PlanFacts& facts, const PlanInputs& inputs) {
  const RunRow& run = *inputs.run;
  api::AttemptPlan plan;
  plan.secrets_file = inputs.secrets_file;
  plan.uid = run.job_uid;
  plan.gid = run.job_gid;
  plan.groups = group_ids(run.job_groups);
  plan.hostname = hostname_of(run);
  plan.root_masks = {facts.node->paths.state};
  if (!starts_with_path(facts.node->paths.runtime, facts.node->paths.state))
    plan.root_masks.push_back(facts.node->paths.runtime);
  plan.project_tree = inputs.snapshot.path;
  plan.project_owner = inputs.snapshot.owner;
  plan.project_upper = inputs.work + "/project";
  plan.binds.push_back({.from = facts.share_folder + "/python", .to = "/loam/python"});
  plan.binds.push_back(
      {.from = facts.node->paths.homes + "/" + std::to_string(run.job_uid) + "/" + run.project,
       .to = "/loam/home",
       .writable = true});
  plan.binds.push_back({.from = inputs.work + "/run", .to = "/loam/run", .writable = true});
  add_environment_tree(plan, facts, inputs);
  add_files(plan, facts, inputs);
  plan.cpu_milli = static_cast<std::uint32_t>(inputs.job->cpu_milli);
  plan.memory_bytes = static_cast<std::uint64_t>(inputs.job->memory_bytes);
  plan.shm_bytes = plan.memory_bytes != 0 ? plan.memory_bytes : kShmBytesWithoutLimit;
  if (inputs.project != nullptr) add_mounts(plan, inputs);
  return plan;
}

// One word for sh, whatever is in it.
std::string shell_word(const std::string& text) {
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

// The arguments of `resume:` at the command's end.
void append_resume(api::AttemptPlan& plan, const spec::Step& step, const std::string& path) {
  static constexpr std::string_view kPlace = "{path}";
  for (std::string word : step.checkpoint->resume) {
    for (auto at = word.find(kPlace); at != std::string::npos;
         at = word.find(kPlace, at + path.size()))
      word.replace(at, kPlace.size(), path);
    if (step.run.shell) {
      std::string& text = plan.argv.back();
      text = std::string(trim(text)) + " " + shell_word(word);
    } else {
      plan.argv.push_back(std::move(word));
    }
  }
}

// The folder that outlives the attempt, and where in it the last one ended.
void add_checkpoint(api::AttemptPlan& plan, const PlanInputs& inputs, const spec::Step& step,
                    Environment& environment) {
  const spec::Checkpoint& checkpoint = *step.checkpoint;
  const std::string folder = "/project/" + checkpoint.path;
  plan.binds.push_back(
      {.from = inputs.checkpoint_folder + "/files", .to = folder, .writable = true});
  plan.checkpoint_signal = checkpoint.signal;
  plan.checkpoint_grace_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(checkpoint.grace).count();
  environment["LOAM_CHECKPOINT_FOLDER"] = folder;
  environment["LOAM_CHECKPOINT_MATCH"] = checkpoint.match;
  environment["LOAM_CHECKPOINT_KEEP"] = std::to_string(checkpoint.keep);
  environment["LOAM_CHECKPOINT_SIGNAL"] = std::to_string(checkpoint.signal);
  if (inputs.resume_from.empty()) return;
  const std::string path = folder + "/" + inputs.resume_from;
  environment["LOAM_CHECKPOINT"] = path;
  append_resume(plan, step, path);
}

// Limits are of all ranks together: what each was granted, as often as there are ranks. Rank and
// rendezvous are the shim's, devices and CPUs of each come with the grant.
void form_gang(api::AttemptPlan& plan, const Json& request) {
  if (!request.has("ranks")) return;
  const std::uint32_t ranks = ranks_of(request);
  plan.ranks.resize(ranks);
  plan.cpu_milli *= ranks;
  plan.memory_bytes *= ranks;
  plan.shm_bytes = plan.memory_bytes != 0 ? plan.memory_bytes : plan.shm_bytes;
}

api::Network network_of(spec::Network network) {
  return network == spec::Network::none ? api::Network::none : api::Network::host;
}

}  // namespace

HostFiles read_host_files() {
  constexpr std::size_t kTableBytesMax = 1u << 20;
  const auto content = [](const char* path) {
    auto text = read_file(path, kTableBytesMax);
    if (!text) return std::string();
    if (!text->empty() && text->back() != '\n') *text += '\n';
    return *text;
  };
  HostFiles host;
  host.resolv_conf = content("/etc/resolv.conf");
  char real[PATH_MAX];
  host.resolv_conf_path =
      ::realpath("/etc/resolv.conf", real) != nullptr ? real : "/etc/resolv.conf";
  host.hosts = content("/etc/hosts");
  if (host.hosts.empty()) host.hosts = "127.0.0.1 localhost\n::1 localhost\n";
  host.passwd = content("/etc/passwd");
  host.group = content("/etc/group");
  host.certificates = path_exists("/etc/ssl/certs/ca-certificates.crt");
  return host;
}

Json params_of(const spec::Step& step, const JobRow& job) {
  Json params = step.params.is_null() ? Json::object() : step.params;
  for (const auto& [name, value] : job.params.as_object()) params.set(name, value);
  return params;
}

api::AttemptPlan plan_step(const PlanFacts& facts, const PlanInputs& inputs,
                           const spec::Step& step) {
  api::AttemptPlan plan = common_plan(facts, inputs);
  plan.argv = step.run.argv;
  plan.network = network_of(step.network);
  plan.require = step.require;
  plan.time_limit_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(step.resources.time).count();
  if (step.scratch == spec::Scratch::disk) {
    plan.scratch = api::Scratch::disk;
    plan.scratch_folder = inputs.work + "/scratch";
  }
  add_data(plan, inputs);
  for (const UpstreamBind& upstream : inputs.upstream)
    plan.binds.push_back({.from = upstream.tree.path,
                          .to = "/project/" + upstream.path,
                          .owner = upstream.tree.owner});
  Environment environment = base_environment(inputs, plan);
  environment["LOAM_PARAMS"] = params_of(step, *inputs.job).dump();
  if (step.checkpoint) add_checkpoint(plan, inputs, step, environment);
  if (step.output) {
    // One folder for both is the checkpoints' (checkpoints.h, move_output).
    if (!step.checkpoint || step.checkpoint->path != step.output->path)
      plan.binds.push_back({.from = inputs.work + "/output",
                            .to = "/project/" + step.output->path,
                            .writable = true});
    environment["LOAM_OUTPUT"] = "/project/" + step.output->path;
  }
  if (inputs.job->kind == "lane")
    plan.lane = {.run_folder = inputs.work + "/run",
                 .output_folder = step.output ? inputs.work + "/output" : ""};
  finish_environment(plan, inputs, std::move(environment));
  form_gang(plan, inputs.job->request);
  return plan;
}

api::AttemptPlan plan_command(const PlanFacts& facts, const PlanInputs& inputs) {
  api::AttemptPlan plan = common_plan(facts, inputs);
  const Json& command = inputs.run->options["command"];
  plan.argv = command["argv"].as_strings();
  plan.terminal = command["terminal"].as_bool();
  plan.standard_input = command["standard_input"].as_bool();
  plan.network = command["network"].as_string() == "none" ? api::Network::none : api::Network::host;
  plan.time_limit_ms = command["time_ms"].as_int();
  plan.idle_limit_ms = plan.terminal ? command["idle_ms"].as_int() : 0;
  if (inputs.project != nullptr) add_data(plan, inputs);
  for (const UpstreamBind& upstream : inputs.upstream)
    plan.binds.push_back({.from = upstream.tree.path,
                          .to = "/project/" + upstream.path,
                          .owner = upstream.tree.owner});
  Environment environment = base_environment(inputs, plan);
  for (const auto& [name, value] : command["environment"].as_object())
    if (value.is_string()) environment[name] = value.as_string();
  finish_environment(plan, inputs, std::move(environment));
  form_gang(plan, inputs.job->request);
  return plan;
}

api::AttemptPlan plan_replica(const PlanFacts& facts, const PlanInputs& inputs,
                              const spec::Service& service, const TreeView& model,
                              const std::string& channel_folder) {
  api::AttemptPlan plan = common_plan(facts, inputs);
  plan.argv = {"python3", "-m", "loam.worker"};
  plan.network = network_of(service.network);
  plan.require = service.require;
  plan.binds.push_back({.from = model.path, .to = "/loam/model", .owner = model.owner});
  plan.binds.push_back({.from = channel_folder, .to = "/loam/channel", .writable = true});
  Environment environment = base_environment(inputs, plan);
  environment["LOAM_CHANNEL"] = "/loam/channel/channel.sock";
  environment["LOAM_MODEL"] = "/loam/model";
  environment["LOAM_HANDLER"] = service.handler_file + ":" + service.handler_function;
  environment["LOAM_SERVICE"] = service.name;
  finish_environment(plan, inputs, std::move(environment));
  return plan;
}

api::AttemptPlan plan_gateway(const PlanFacts& facts, const PlanInputs& inputs,
                              const std::string& endpoint_folder) {
  api::AttemptPlan plan = common_plan(facts, inputs);
  plan.project_tree.clear();
  plan.project_upper.clear();
  plan.secrets_file.clear();
  plan.directory = "/";
  plan.argv = {"/loam/bin/loam-gateway", "--endpoint", "/loam/endpoint"};
  // Explicit, because the program may lie below a folder that jobs do not see.
  plan.binds = {
      {.from = facts.program_folder + "/loam-gateway", .to = "/loam/bin/loam-gateway"},
      {.from = endpoint_folder + "/plan", .to = "/loam/endpoint/plan"},
      {.from = endpoint_folder + "/replicas", .to = "/loam/endpoint/replicas", .writable = true},
      {.from = endpoint_folder + "/requests", .to = "/loam/endpoint/requests", .writable = true},
      {.from = endpoint_folder + "/status", .to = "/loam/endpoint/status", .writable = true}};
  // The relocatable archive's own libraries, which the program looks for in its ../lib/loam.
  const std::string libraries =
      facts.program_folder.substr(0, facts.program_folder.rfind('/')) + "/lib/loam";
  if (path_exists(libraries)) plan.binds.push_back({.from = libraries, .to = "/loam/lib/loam"});
  plan.environment = {{"PATH", kPath},
                      {"HOME", "/"},
                      {"USER", inputs.run->job_user},
                      {"LANG", "C.UTF-8"},
                      {"TZ", "UTC"}};
  return plan;
}

sandbox::CgroupLimits limits_of(const api::AttemptPlan& plan) {
  return {.memory_bytes = plan.memory_bytes,
          .cpu_milli = plan.cpu_milli,
          .processes_max = plan.processes_max,
          .cpu_set = {.cpus = plan.cpus, .memory_nodes = plan.memory_nodes, .pinned = plan.pinned},
          .huge_page_bytes = plan.huge_page_bytes,
          .huge_bytes = plan.huge_bytes};
}

}  // namespace loam::node
