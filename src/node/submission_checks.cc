#include "node/submission_checks.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "node/accounts.h"
#include "node/http_wire.h"
#include "node/job_request.h"
#include "node/runs_impl.h"
#include "spec/checks.h"

namespace loam::node {
namespace {

constexpr std::size_t kPathBytesMax = 4096;
constexpr std::size_t kArgumentsMax = 10'000;
constexpr const char* kRetryAfterSeconds = "60";

Json problems_json(const std::vector<spec::Problem>& problems) {
  Json list{Json::Array{}};
  for (const spec::Problem& problem : problems)
    list.push(Json::object({{"line", problem.place.line},
                            {"column", problem.place.column},
                            {"key", printable(problem.key)},
                            {"message", printable(problem.message)}}));
  return list;
}

// What this machine can never do is said at once, at its place in the file.
void check_fits(const Node& node, const Submitter& submitter, const spec::Env& env,
                const spec::Resources& resources, int ranks, const std::string& name,
                std::vector<spec::Problem>& problems) {
  const std::string refusal = refusal_of(
      node, submitter, {.cpu_milli = resources.cpu_milli, .memory_bytes = resources.memory_bytes},
      request_json(resources, ranks));
  if (!refusal.empty()) problems.push_back({resources.place, name + ".resources", refusal});
  if (node.context.identity.single_id && (env.base != "host" || !env.pip.empty()))
    problems.push_back(
        {env.place, name + ".env",
         "this node has no subordinate ids, so only base: host can be used; an administrator can "
         "add them "
         "with: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"});
}

constexpr std::int64_t kPriorityMax = 1000;
constexpr const char* kOnlyRootRaises =
    "only root and the admins may go before others on a node that users share; expected 0 or less "
    "(give the work that can wait less)";

// Whoever raises his own lowers all others: on a node that users share that is root's and the
// admins'.
void check_priority(bool may_raise, int priority, spec::Place place, const std::string& name,
                    std::vector<spec::Problem>& problems) {
  if (priority > 0 && !may_raise)
    problems.push_back({place, name + ".priority", kOnlyRootRaises});
}

}  // namespace

Result<Submitter> submitter_of(const Node& node, const Caller& caller, const std::string& account) {
  const Identity& identity = node.context.identity;
  const bool root = is_root(identity, caller);
  Submitter submitter{.user = user_name(caller.uid),
                      .account = {},
                      .may_raise = identity.rootless || is_admin(identity, node.config.admins, caller)};
  submitter.account =
      LOAM_TRY(account_for(node.config.config, {.user = submitter.user, .root = root}, account));
  return submitter;
}

Result<std::optional<std::int64_t>> checked_priority(const Json& body, const Submitter& submitter) {
  const Json& asked = body["priority"];
  if (asked.is_null()) return std::nullopt;
  const std::int64_t priority = asked.as_int(kPriorityMax + 1);
  if (priority < -kPriorityMax || priority > kPriorityMax)
    return fail(ErrorCode::invalid, "priority: expected a whole number from -1000 to 1000");
  if (priority > 0 && !submitter.may_raise)
    return fail(ErrorCode::invalid, std::string("priority: ") + kOnlyRootRaises);
  return priority;
}

std::string refusal_of(const Node& node, const Submitter& submitter, sched::Request request,
                       const Json& asked) {
  const HugePagePool& pool = node.devices.huge_pages();
  if (std::string problem = request_problem(asked, node.devices.kinds(), pool); !problem.empty())
    return problem;
  add_request(asked, pool, request);
  return node.queue.refusal({.user = submitter.user,
                             .account = submitter.account,
                             .ranks = ranks_of(asked),
                             .rank = std::move(request)});
}

Result<void> read_command(const Node& node, const Json& command, const Submitter& submitter,
                          RunRow& run) {
  LOAM_CHECK(check_command(command));
  (void)LOAM_TRY(checked_request(command));
  run.options.set("command", command);
  // As it will be queued, with what it leaves out.
  for (const JobRow& job : jobs_for(run, std::nullopt)) {
    const std::string refusal =
        refusal_of(node, submitter,
                   {.cpu_milli = static_cast<std::uint64_t>(job.cpu_milli),
                    .memory_bytes = static_cast<std::uint64_t>(job.memory_bytes)},
                   job.request);
    if (!refusal.empty()) return fail(ErrorCode::invalid, refusal);
  }
  return {};
}

std::int64_t claims_of(const std::vector<JobRow>& jobs, const std::optional<spec::Project>& project) {
  std::int64_t claims = 0;
  std::map<std::string, int> replicas;
  for (const JobRow& job : jobs) {
    std::size_t tasks = 1;
    if (project && job.kind == "replica")  // those above the least number are not queued yet
      for (const spec::Service& service : project->services)
        if (service.name == job.service && ++replicas[job.service] > service.replicas.min)
          tasks = 0;
    if (project && job.kind == "step")
      for (const spec::Step& step : project->steps)
        if (step.name == job.name && !step.sweep.empty())
          tasks = spec::task_params(step.sweep).size();
    claims += static_cast<std::int64_t>(tasks);
  }
  return claims;
}

bool queue_has_room(const Node& node, const RunRow& run,
                    const std::optional<spec::Project>& project, const ResponderPtr& responder) {
  const auto full = node.queue.queue_refusal({.user = run.user, .account = run.account},
                                             claims_of(jobs_for(run, project), project));
  if (!full) return true;
  if (full->never) {
    responder->reply_error({ErrorCode::invalid, full->text});
  } else {
    responder->header("retry-after", kRetryAfterSeconds);
    responder->reply(429, error_body({ErrorCode::busy, full->text + "; try again when some have started"}));
  }
  return false;
}

void refuse(const ResponderPtr& responder, const std::string& file,
            const std::vector<spec::Problem>& problems) {
  responder->reply(
      422, Json::object({{"error", Json::object({{"code", "invalid"},
                                                 {"text", spec::format_problems(file, problems)}})},
                         {"problems", problems_json(problems)}}));
}

Result<void> check_folder(const std::string& folder) {
  if (!folder.starts_with('/') || folder.size() > kPathBytesMax ||
      folder.find('\0') != std::string::npos)
    return fail(ErrorCode::invalid,
                "project: expected an absolute path, found '" + printable(folder) + "'");
  return {};
}

Json default_shell() {
  return Json::array({"sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"});
}

Result<void> check_command(const Json& command) {
  const auto argv = command["argv"].as_strings();
  if (argv.empty() || argv.size() != command["argv"].size())
    return fail(ErrorCode::invalid, "command.argv: expected a list of strings, the program first");
  if (argv.size() > kArgumentsMax)
    return fail(ErrorCode::too_large, "command.argv: over 10,000 arguments");
  for (const std::string& argument : argv)
    if (argument.find('\0') != std::string::npos)
      return fail(ErrorCode::invalid, "command.argv: holds a zero byte");
  for (const char* key : {"cpu_milli", "memory_bytes", "time_ms", "idle_ms"})
    if (command[key].as_int() < 0)
      return fail(ErrorCode::invalid, std::string("command.") + key + ": below zero");
  const std::int64_t memory_bytes = command["memory_bytes"].as_int();
  if (memory_bytes > 0 && memory_bytes < spec::kJobMemoryBytesMin)
    return fail(ErrorCode::invalid, "memory: " + format_size(static_cast<std::uint64_t>(memory_bytes)) +
                                        " is too little to start in; expected at least " +
                                        format_size(spec::kJobMemoryBytesMin));
  for (const auto& [name, value] : command["environment"].as_object()) {
    if (const std::string wrong = spec::variable_problem(name); !wrong.empty())
      return fail(ErrorCode::invalid, "command.environment: " + wrong);
    if (value.as_string().find('\0') != std::string::npos)
      return fail(ErrorCode::invalid,
                  "command.environment: the value of '" + name + "' holds a zero byte");
  }
  return {};
}

bool wants_steps(const std::string& verb) { return verb == "up" || verb == "train"; }
bool wants_services(const std::string& verb) { return verb == "up" || verb == "serve"; }

std::vector<spec::Problem> find_misfits(const Node& node, const Submitter& submitter,
                                        const std::string& verb, const spec::Project& project) {
  std::vector<spec::Problem> problems;
  const bool may_raise = submitter.may_raise;
  for (const spec::Step& step : project.steps)
    check_priority(may_raise, step.priority, step.place, step.name, problems);
  for (const spec::Service& service : project.services)
    check_priority(may_raise, service.priority, service.place, service.name, problems);
  if (wants_steps(verb))
    for (const spec::Step& step : project.steps)
      check_fits(node, submitter, step.env, step.resources, step.ranks, step.name, problems);
  if (wants_services(verb))
    for (const spec::Service& service : project.services)
      check_fits(node, submitter, service.env, service.resources, 0, service.name, problems);
  if (verb == "train" && project.steps.empty())
    problems.push_back({{}, "", "has no steps; 'loam train' needs `steps:` or `train:` (loam serve: the services alone)"});
  if (verb == "serve" && project.services.empty())
    problems.push_back({{}, "", "has no services; 'loam serve' needs `services:` or `serve:` (loam train: the steps alone)"});
  const auto later = [](const auto& a, const auto& b) {
    return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
  };
  std::stable_sort(problems.begin(), problems.end(), later);
  return problems;
}

}  // namespace loam::node
