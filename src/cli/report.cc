#include "cli/report.h"

#include "base/text.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr int kBarWidth = 24;

std::string text_at(const Json& event, std::string_view key) {
  return printable(event[key].as_string());
}

}  // namespace

void Report::line(const std::string& text) {
  if (quiet_) return;
  on_error_ ? console_.warn(text) : console_.print(text);
}

void Report::line_once(const std::string& key, const std::string& text) {
  std::string& last = last_[key];
  if (last == text) return;
  last = text;
  line(text);
}

void Report::tell(const engines::Event& event) {
  if (event.kind == "run") tell_run(event.data);
  if (event.kind == "env") tell_env(event.data);
  if (event.kind == "step") tell_step(event.data);
  if (event.kind == "service") tell_service(event.data);
  if (event.kind == "endpoint") tell_endpoint(event.data);
  if (event.kind == "note") line_once("note", text_at(event.data, "text"));
  if (event.kind == "lock") line("wrote " + text_at(event.data, "path"));
}

void Report::tell_run(const Json& event) {
  const std::string& state = event["state"].as_string();
  console_.clear_progress();
  const std::string run = "run " + std::to_string(run_);
  const std::string error = text_at(event, "error");
  if (state == "failed") console_.warn(run + " failed" + (error.empty() ? "" : ": " + error));
  if (state == "cancelled")
    console_.warn(run + " was cancelled" + (error.empty() ? "" : ": " + error));
  if (state == "succeeded") line(console_.green(run + " succeeded"));
  if (state == "succeeded" || state == "serving") tell_hints();
}

void Report::tell_hints() {
  if (quiet_ || on_error_) return;
  const std::string run = std::to_string(run_);
  line("next: loam ps" + on_ + " · loam logs " + run + on_ + " · loam trace " + run + on_ + " · loam down" + on_);
}

void Report::tell_env(const Json& event) {
  const std::string name = text_at(event, "env");
  const std::string& state = event["state"].as_string();
  if (state.empty()) return tell_env_progress(name, event);
  console_.clear_progress();
  if (state == "ready") {
    const bool built = event["built"].as_bool();
    const std::string digest = short_digest(event["digest"].as_string());
    line_once("env " + name, "environment " + console_.bold(name) + ": " +
                                 (built ? "built" : "ready") +
                                 (digest.empty() ? "" : " " + console_.dim(digest)));
  } else if (state == "waiting") {
    line_once("env " + name, "environment " + name + ": another build of it is under way");
  } else if (state == "failed") {
    line_once("env " + name,
              "environment " + name + ": " + console_.red("failed"));  // the run's error says why
  }
}

void Report::tell_env_progress(const std::string& name, const Json& event) {
  if (quiet_) return;
  if (console_.out_terminal() && !on_error_) {
    const std::string bar =
        progress_bar(event["done"].as_int(), event["total"].as_int(), kBarWidth);
    console_.progress("environment " + name + ": " + bar + (bar.empty() ? "" : " ") +
                      describe_progress(event));
    return;
  }
  const std::string phase = text_at(event, "phase");
  if (!phase.empty()) line_once("env " + name, "environment " + name + ": " + phase);
}

void Report::tell_step(const Json& event) {
  const std::string step = text_at(event, "step");
  const std::string& state = event["state"].as_string();
  if (state == "succeeded" || state == "failed" || state == "cancelled" || state == "skipped" ||
      state == "unchanged")
    return tell_step_end(step, state, event);
  const bool says_why = event.has("reason") || event["changed"].size() > 0;
  if ((says_why || state == "running") && announced_.insert(step).second)
    line(console_.bold(step) + ": " + describe_reason(event));
  const std::string why = text_at(event, "why");
  const std::string checkpoint = text_at(event, "checkpoint");
  if (state == "preempted" && event.has("exit"))
    return line(console_.bold(step) + ": " + console_.yellow("preempted") + " (" + why + "); " +
                (checkpoint.empty() ? "begins anew" : "resumes from " + checkpoint));
  if (state != "running" && !why.empty()) line_once("step " + step, step + ": " + why);
  if (state == "running" && event["attempt"].as_int() > 1)
    line_once("step " + step, step + ": attempt " + std::to_string(event["attempt"].as_int()) +
                                  (checkpoint.empty() ? "" : ", from " + checkpoint));
}

void Report::tell_step_end(const std::string& step, const std::string& state, const Json& event) {
  const std::string name = console_.bold(step) + ": ";
  const std::string version = text_at(event, "model_version");
  const std::string made = version.empty() ? "" : " → " + version;
  const std::string why = text_at(event, "why");
  const Json& exit = event["exit"];
  announced_.insert(step);
  if (state == "unchanged") {
    const std::string reason = text_at(event, "reason");
    line(name + (reason.empty() ? "unchanged" : reason) +
         (version.empty() ? "" : " (" + version + ")"));
  } else if (state == "succeeded") {
    const std::string duration = duration_of(exit);
    line(name + console_.green("done") + (duration.empty() ? "" : " in " + duration) + made);
  } else if (state == "skipped") {
    line(name + "skipped" + (why.empty() ? "" : ": " + why));
  } else if (state == "cancelled") {
    line(name + "cancelled" + (why.empty() ? "" : ": " + why));
  } else {
    // A command that ended well can still have failed as a step: no output, say.
    const bool ended_badly =
        exit.is_object() && (exit["outcome"].as_string() != "exited" || exit["code"].as_int() != 0);
    const std::string what = ended_badly ? describe_exit(exit) : why;
    line(name + console_.red("failed") + (what.empty() ? "" : ": " + what));
    if (const std::string said = text_at(event, "error_line"); !said.empty())
      line("  its output says: " + console_.bold(said));
    if (const std::string target = text_at(event, "target"); !target.empty() && !on_error_)
      line("  look: loam logs " + target + on_ + " · loam shell " + target + on_);
  }
}

void Report::tell_service(const Json& event) {
  const std::string service = text_at(event, "service");
  const std::string& state = event["state"].as_string();
  const std::string error = text_at(event, "error");
  std::string version = text_at(event, "model_version");
  if (version.starts_with('@')) version.clear();  // not chosen yet
  std::string text = "service " + console_.bold(service) + ": ";
  if (state == "ready") {
    text += console_.green("ready") + (version.empty() ? "" : ", " + version);
    const std::int64_t ready = event["ready"].as_int();
    if (ready > 0) text += ", " + std::to_string(ready) + (ready == 1 ? " replica" : " replicas");
  } else {
    text += (state == "failed" ? console_.red(state) : printable(state)) +
            (version.empty() ? "" : " " + version) + (error.empty() ? "" : ": " + error);
  }
  line_once("service " + service, text);
}

void Report::tell_endpoint(const Json& event) {
  const std::string listening = text_at(event, "listening");
  if (listening.empty()) return;
  std::vector<std::string> models;
  for (const Json& model : event["models"].as_array())
    models.push_back(printable(model.is_string() ? model.as_string() : model["name"].as_string()));
  const std::string text = "endpoint " + console_.bold("http://" + listening) +
                           (models.empty() ? "" : " serves " + join(models, ", "));
  line_once("endpoint", text);
}

}  // namespace loam::cli
