// `loam shell` of an attempt that has ended: a run over what it left. One that lives is joined
// (attempt_joins.cc).
#include "base/clock.h"
#include "node/runs_impl.h"
#include "node/submission_checks.h"

namespace loam::node {

// A terminal in an ended attempt's environment and files: a run of its own over the same snapshot, and
// in the queue a claim like any other, of the user whose files they are.
void Runs::Impl::submit_shell(const Request& request, ResponderPtr responder) {
  if (closing) return responder->reply_error({ErrorCode::unavailable, "the node is stopping"});
  Target target;
  auto attempt = find_attempt(request.caller, request.body["target"].as_string(), &target);
  if (!attempt) return responder->reply_error(attempt.error());
  if (target.job->kind == "gateway")
    return responder->reply_error({ErrorCode::invalid, "the gateway has no files of its own"});
  if (attempt->state != "ended")  // its own sandbox is there to join
    return responder->reply(
        200, Json::object({{"live", target_text(*target.job) + "/" + std::to_string(attempt->number)}}));
  RunRow run = target.run;
  // He may have left the account since.
  auto submitter = submitter_of(node, request.caller, run.account);
  if (!submitter) return responder->reply_error(submitter.error());
  submitter->user = run.user;
  run.id = 0;
  run.verb = "shell";
  run.state = "preparing";
  run.error.clear();
  run.created_ms = wall_ms();
  run.ended_ms = 0;
  run.options = Json::object();
  const Json command = Json::object(
      {{"argv",
        request.body["argv"].size() > 0
            ? request.body["argv"]
            : default_shell()},
       {"terminal", request.body["terminal"].as_bool(true)},
       {"standard_input", true},
       {"cpu_milli", 1000},
       {"environment", request.body["environment"]}});
  if (auto read = read_command(node, command, *submitter, run); !read)
    return responder->reply_error(read.error());
  if (!queue_has_room(node, run, std::nullopt, responder)) return;
  begin_shell(run, target, attempt->number);
  node.db.after_commit([responder, id = run.id] {
    responder->reply(201, Json::object({{"run", id}}));
  });
  node.loop.post([this, id = run.id] { consider(id); });
}

void Runs::Impl::begin_shell(RunRow& run, const Target& target, int attempt) {
  run.id = tables.insert(run);
  const JobId source = target.job->state == "unchanged" ? target.job->source : target.job->id;
  for (JobRow& job : jobs_for(run, std::nullopt)) {
    job.env = target.job->env;
    job.source = source;
    job.source_attempt = attempt;
    job.state = "blocked";
    tables.insert(job);
  }
  events.add(run.id, "run", Json::object({{"state", run.state}}));
  set_run_state(run, "running");
}

}  // namespace loam::node
