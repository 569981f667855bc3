// `loam ps --why TARGET`: what a job waits for, who has it, when it can be expected to start.
#include "base/text.h"
#include "base/time_of_day.h"
#include "cli/verbs.h"
#include "cli/words.h"
#include "engines/http_exchange.h"

namespace loam::cli {
namespace {

// A line of the answer: what it says, and in how many words.
struct Line {
  std::string name;
  std::string text;
};

std::string amount(const Json& shortage, std::string_view key) {
  const std::string& what = shortage["what"].as_string();
  if (what == "CPU") return format_cpus(shortage[key].as_int());
  if (what == "memory") return format_bytes(shortage[key]);
  return std::to_string(shortage[key].as_int());
}

std::string shortage_text(const Json& shortage) {
  const std::string& what = shortage["what"].as_string();
  const std::string& model = shortage["model"].as_string();
  std::string text = (what == "gpu" ? std::string("GPU") : printable(what)) +
                     (model.empty() ? "" : " (" + printable(model) + ")") + ": needs " +
                     amount(shortage, "needed") + ", " + amount(shortage, "free") + " of " +
                     amount(shortage, "total") + " free";
  for (const std::string& device : shortage["out_of_service"].as_strings())
    text += "; " + printable(device);
  return text;
}

std::string owner_text(const Json& who) {
  if (who["target"].is_null()) return "a job that has ended";
  return printable(who["target"].as_string()) + " of " + printable(who["user"].as_string());
}

std::string holder_text(const Json& holder, std::int64_t now_ms) {
  std::string text = owner_text(holder);
  if (holder["preempted"].as_bool()) return text + ", which makes room now";
  return text + (holder["ends_ms"].is_null()
                     ? ", without a time limit"
                     : ", until " + format_time_of_day(holder["ends_ms"].as_int(), now_ms) + " at the latest");
}

std::string expected_text(const Json& job, std::int64_t now_ms) {
  if (!job["expected_start_ms"].is_null())
    return "about " + format_time_of_day(job["expected_start_ms"].as_int(), now_ms);
  const std::string& unknown = job["unknown_why"].as_string();
  return unknown.empty() ? "" : "unknown: " + printable(unknown);
}

std::vector<Line> lines_of(const Json& job, std::int64_t now_ms) {
  std::vector<Line> lines;
  const auto add = [&](const std::string& name, const std::string& text) {
    if (!text.empty()) lines.push_back({name, text});
  };
  const auto words = [&](std::string_view key) { return printable(job[key].as_string()); };
  add("never", words("never"));
  add("quota", words("quota"));
  for (const Json& shortage : job["short_of"].as_array()) add("short of", shortage_text(shortage));
  for (const Json& holder : job["holders"].as_array()) add("who has it", holder_text(holder, now_ms));
  if (const std::int64_t ahead = job["ahead"].as_int(); ahead > 0)
    add("ahead", std::string(job["ahead_at_least"].as_bool() ? "more than " : "") +
                     std::to_string(ahead) + (ahead == 1 ? " job" : " jobs") + ", first " +
                     owner_text(job["first_ahead"]));
  // Where the scheduler has nothing to say, the run has.
  if (lines.empty()) add("why", words("why"));
  add("expected", expected_text(job, now_ms));
  if (const std::int64_t more = job["more_tasks"].as_int(); more > 0)
    add("and", std::to_string(more) + (more == 1 ? " more task" : " more tasks") + " of its sweep");
  return lines;
}

void print_job(Console& console, const Json& job, std::int64_t now_ms) {
  const std::int64_t priority = job["priority"].as_int();
  const std::string head = printable(job["target"].as_string()) + " of " +
                           printable(user_of(job)) + ": " + printable(job["state"].as_string()) +
                           (priority != 0 ? ", priority " + std::to_string(priority) : "");
  if (!job["waits"].as_bool()) return console.print(head + "; it waits for nothing");
  console.print(head);
  constexpr std::size_t kNameWidth = 12;
  for (const Line& line : lines_of(job, now_ms))
    console.print("  " + line.name + std::string(kNameWidth - line.name.size(), ' ') + line.text);
}

}  // namespace

int print_why(Context& context) {
  const Answer answer = ask(context, "GET", "/v1/why/" + engines::percent_encoded_path(context.arguments.value("why")));
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  for (const Json& job : answer.body["jobs"].as_array()) print_job(context.console, job, answer.body["now_ms"].as_int());
  return kExitOk;
}

}  // namespace loam::cli
