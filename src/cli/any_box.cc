#include "cli/any_box.h"

#include "base/text.h"
#include "cli/box_questions.h"
#include "cli/on.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

std::vector<std::string> question_of(const Arguments& arguments) {
  std::vector<std::string> words{"plan", "--file=" + arguments.value("file", "loam.yaml")};
  if (arguments.flag("force")) words.push_back("--force");
  for (const char* key : {"account", "priority"})
    if (arguments.has(key)) words.push_back("--" + std::string(key) + "=" + arguments.value(key));
  return words;
}

}  // namespace

std::string why_not_now(const Json& plan) {
  for (const Json& step : plan["steps"].as_array()) {
    // What comes after another step, or may turn out unchanged, says nothing about now.
    const Json& start = step["start"];
    if (start.is_null() || step["after"].size() > 0 || step["action"].as_string() == "may run")
      continue;
    if (start["now"].as_bool()) continue;
    const std::string& why = start["why"].as_string();
    return plain_text(step["step"]) + " would wait" + (why.empty() ? "" : ": " + printable(why));
  }
  for (const Json& service : plan["services"].as_array())
    if (service["action"].as_string() == "fails")
      return plain_text(service["service"]) + " has no version of " + plain_text(service["model"]) +
             " there";
  return "";
}

int choose_any_box(Context& context, const std::string& verb, const ProjectFile& file) {
  if (context.arguments.value(kOn) != kAnyBox || verb == "serve") return kExitOk;
  const auto boxes = configured_boxes();
  if (!boxes) return report(context, boxes.error());
  bool answered = false;
  for (const boxes::Address& box : *boxes) {
    context.console.progress("asking " + box.name);
    const Result<Json> plan = ask_boxes({box}, question_of(context.arguments)).front().document;
    context.console.clear_progress();
    answered = answered || plan || plan.error().code != ErrorCode::unavailable;
    const std::string why = plan ? why_not_now(*plan) : plan.error().text;
    if (plan && why.empty()) {
      context.console.warn(box.name + " takes it");
      context.arguments.set(kOn, {box.name});
      return kExitOk;
    }
    context.console.warn(why.starts_with("box " + box.name) ? why : box.name + ": " + why);
  }
  context.console.warn("no box fits " + printable(file.project.name) +
                       " now; --on BOX queues it on one");
  return answered ? kExitPreempted : kExitUnavailable;
}

}  // namespace loam::cli
