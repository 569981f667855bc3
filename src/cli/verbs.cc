#include "cli/verbs.h"

#include "cli/on.h"

namespace loam::cli {

const std::vector<Verb>& all_verbs() {
  static const std::vector<Verb> verbs = [] {
    std::vector<Verb> all{
      up_verb(),   plan_verb(),    train_verb(),   serve_verb(),      down_verb(),  run_verb(),    sbatch_verb(), ps_verb(),
      logs_verb(), cancel_verb(),  preempt_verb(),    hold_verb(),  release_verb(), usage_verb(), files_verb(),
      shell_verb(), forward_verb(), models_verb(),
      trace_verb(),
      lock_verb(), store_verb(),   secret_verb(),     token_verb(),  check_verb(), schema_verb(), sim_verb(), doctor_verb(),
      devices_verb(), node_verb(), version_verb(), completion_verb(), help_verb()};
    add_on_options(all);
    return all;
  }();
  return verbs;
}

Result<engines::LocalNode> connect_node(Context& context) {
  if (context.arguments.has(kOn)) {
    boxes::Box* box = LOAM_TRY(box_of(context));
    return box->node();
  }
  engines::StartOptions options;
  options.on_started = [&](const std::string& line) { context.console.warn(line); };
  return engines::find_or_start_node(options);
}

int report(Context& context, const Error& error) {
  context.console.clear_progress();
  context.console.warn(error.text);
  switch (error.code) {
    case ErrorCode::invalid:
      return kExitUsage;
    case ErrorCode::unavailable:
      return kExitUnavailable;
    case ErrorCode::cancelled:
      return kExitInterrupted;
    default:
      return kExitFailure;
  }
}

Answer ask(Context& context, std::string_view method, const std::string& target, const Json& body) {
  const auto node = connect_node(context);
  if (!node) return {{}, report(context, node.error())};
  auto answer = node->call(method, target, body);
  if (!answer) return {{}, report(context, answer.error())};
  return {std::move(*answer), kExitOk};
}

}  // namespace loam::cli
