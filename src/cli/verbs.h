// One function per verb, each in the file of its name; verbs.cc puts them in order. Also what they
// share: finding the node and telling of a failure.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "cli/verb.h"
#include "engines/local_node.h"

namespace loam::cli {

Verb up_verb();
Verb plan_verb();
Verb train_verb();
Verb serve_verb();
Verb down_verb();
Verb run_verb();
Verb sbatch_verb();
Verb lock_verb();
Verb store_verb();
Verb ps_verb();
Verb logs_verb();
Verb cancel_verb();
Verb preempt_verb();
Verb hold_verb();
Verb release_verb();
Verb usage_verb();
Verb models_verb();
Verb files_verb();
Verb shell_verb();
Verb forward_verb();
Verb secret_verb();
Verb token_verb();
Verb trace_verb();
Verb doctor_verb();
Verb devices_verb();
Verb check_verb();
Verb sim_verb();
Verb node_verb();
Verb schema_verb();
Verb version_verb();
Verb completion_verb();
Verb help_verb();

// The node that listens, or one started for this user (one line on standard error says so).
Result<engines::LocalNode> connect_node(Context& context);
// Prints "loam: TEXT" and returns the exit status that the error's code asks for.
int report(Context& context, const Error& error);
// connect_node, one call, its answer; the error is reported, `status` then says how to leave.
struct Answer {
  Json body;
  int status = kExitOk;
};
Answer ask(Context& context, std::string_view method, const std::string& target,
           const Json& body = {});

// `loam ps --why TARGET` (why.cc).
int print_why(Context& context);

}  // namespace loam::cli
