// Held back: a job that does not start until somebody lets it go. The row says who holds it, so a
// node that starts again holds it too.
//
//   preparing, blocked, queued, preempted   does not start
//   running                                 runs on; held when it waits again (retry, preemption)
//
// What an admin holds, an admin lets go, and what root holds, root: neither's hold is a request.
#include "base/text.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr const char* kRoot = "root";

// The jobs that a target means: one, or all of a run that a hold can reach.
std::vector<JobRow> jobs_meant(RunTables& tables, const Target& target, const std::string& text) {
  const bool one = text.find('/') != std::string::npos && target.job;
  const bool is_sweep = one && target.job->tasks > 0;
  if (one && !is_sweep) return {*target.job};
  if (text.find('/') != std::string::npos && !one) return {};
  auto jobs = is_sweep ? tables.tasks_of(target.job->id) : tables.jobs_of(target.run.id);
  std::erase_if(jobs, [](const JobRow& job) {
    return job.ended() || job.tasks > 0 || job.kind == "lane" || job.kind == "replica" || job.kind == "gateway";
  });
  return jobs;
}

}  // namespace

std::string Runs::Impl::held_text(const JobRow& job) {
  return "held by " + job.held + "; loam release " + target_text(job) + " lets it go";
}

Result<void> Runs::Impl::hold_job(JobRow job, const Caller& caller) {
  const std::string target = target_text(job);
  if (job.kind == "replica" || job.kind == "gateway")
    return fail(ErrorCode::invalid,
                target + " belongs to a service, which is not held; `loam down` ends it");
  if (job.ended()) return fail(ErrorCode::busy, target + " has ended: " + job.state);
  if (job.cancel) return fail(ErrorCode::busy, target + " is being cancelled");
  // Whoever held it first has to let it go, but an admin's word is over the owner's, and root's is
  // the last.
  const std::string who = user_name(caller.uid);
  const auto run = tables.run(job.run);
  const bool owners = run && job.held == run->user;
  if (job.held.empty() || who == kRoot ||
      (owners && is_admin(node.context.identity, node.config.admins, caller)))
    job.held = who;
  tables.save(job);
  if (node.queue.contains(job.id)) node.queue.set_held(job.id, true);
  node.shared_cpus.follow(node.queue.state());
  // One that a lane was handed begins no more, unless it has.
  if (const auto attempt = shares_sandbox(job) ? last_attempt(job.id) : std::nullopt;
      attempt && attempt->state == "starting")
    node.supervisor.give_back(attempt->lane);
  if (job.waits())
    step_event(job, Json::object({{"why", held_text(job)}}));
  return {};
}

Result<void> Runs::Impl::release_job(JobRow job, const Caller& caller) {
  const std::string target = target_text(job);
  if (job.ended()) return fail(ErrorCode::busy, target + " has ended: " + job.state);
  if (job.held.empty()) return fail(ErrorCode::busy, target + " is not held");
  const Identity& identity = node.context.identity;
  if (job.held == kRoot && caller.uid != 0 && !identity.rootless)
    return fail(ErrorCode::denied, target + " is held by root, who alone lets it go");
  const auto run = tables.run(job.run);
  if (run && job.held != run->user && !identity.rootless &&
      !is_admin(identity, node.config.admins, caller))
    return fail(ErrorCode::denied,
                target + " is held by " + job.held + "; root and the node's admins let it go");
  job.held.clear();
  tables.save(job);
  if (job.waits()) step_event(job, Json::object());
  if (shares_sandbox(job) && job.in_queue() && !attempt_alive(job.id)) await_lane(job);
  if (!node.queue.contains(job.id)) return {};
  if (job.request["devices"].size() > 0) node.devices.look_again();
  node.queue.set_held(job.id, false);
  node.devices.watch_for_waiting();
  node.shared_cpus.follow(node.queue.state());
  tell_why_it_waits(job.id);
  return {};
}

void Runs::Impl::hold_routes(Routes& routes) {
  using Act = Result<void> (Impl::*)(JobRow, const Caller&);
  const auto add = [&](const std::string& path, const std::string& done, Act act) {
    routes.add("POST", path,
               [this, done, act](const Request& request, const Routes::Params&,
                                 ResponderPtr responder) {
                 const std::string text = request.body["target"].as_string();
                 const auto target = find_target(request.caller, text, For::acting);
                 if (!target) return responder->reply_error(target.error());
                 Json targets = Json::array();
                 std::optional<Error> refused;
                 for (const JobRow& job : jobs_meant(tables, *target, text)) {
                   // As it is now: what was done to the one before may have changed it.
                   const auto current = tables.job(job.id);
                   if (!current) continue;
                   if (auto acted = (this->*act)(*current, request.caller); !acted)
                     refused = acted.error();
                   else
                     targets.push(Json::object({{"target", target_text(job)},
                                                {"running", job.runs()}}));
                 }
                 if (targets.size() == 0)
                   return responder->reply_error(
                       refused ? *refused
                               : Error{ErrorCode::busy, printable(text) + " has no job that waits or "
                                                                          "runs"});
                 responder->reply(200, Json::object({{done, std::move(targets)}}));
               });
  };
  add("/v1/hold", "held", &Impl::hold_job);
  add("/v1/release", "released", &Impl::release_job);
}

}  // namespace loam::node
