#include "cli/every_box.h"

#include "base/clock.h"
#include "base/text.h"
#include "cli/box_questions.h"
#include "cli/job_table.h"
#include "cli/on.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

std::vector<std::string> question_of(const Arguments& arguments) {
  std::vector<std::string> words{"ps"};
  if (arguments.flag("all")) words.push_back("--all");
  if (arguments.has("limit")) words.push_back("--limit=" + arguments.value("limit"));
  return words;
}

void print_table(Console& console, const std::vector<BoxAnswer>& answers, bool all) {
  Table table = job_table();
  table.head.insert(table.head.begin(), "BOX");
  for (std::size_t& column : table.right) ++column;
  const std::int64_t now_ms = wall_ms();
  for (const BoxAnswer& answer : answers) {
    if (!answer.document) continue;
    for (const Json& job : (*answer.document)["jobs"].as_array()) {
      table.rows.push_back(job_cells(job, now_ms));
      table.rows.back().insert(table.rows.back().begin(), answer.box);
    }
  }
  if (!table.rows.empty())
    console.print_text(format_table(table));
  else
    console.print(all ? "nothing has run yet on any box"
                      : "nothing runs or waits on any box (-a: what has ended)");
}

void print_rest(Console& console, const BoxAnswer& answer) {
  if (!answer.document) return console.warn(answer.document.error().text);
  if (const std::int64_t more = (*answer.document)["more"].as_int(); more > 0)
    console.print("and " + std::to_string(more) + " more on " + answer.box);
  for (const Json& endpoint : (*answer.document)["endpoints"].as_array())
    console.print(plain_text(endpoint["project"]) + " answers at http://" +
                  plain_text(endpoint["endpoint"]) + " of " + answer.box + " (run " +
                  plain_text(endpoint["run"]) + ")");
}

// {"boxes": {"gpu1": the answer of ps --json, "gpu2": {"error": …}}}
Json document_of(const std::vector<BoxAnswer>& answers) {
  Json boxes = Json::object();
  for (const BoxAnswer& answer : answers)
    boxes.set(answer.box, answer.document
                              ? *answer.document
                              : Json::object({{"error", answer.document.error().text}}));
  return Json::object({{"boxes", std::move(boxes)}});
}

}  // namespace

int list_jobs_of_every_box(Context& context) {
  if (context.arguments.has("RUN") || context.arguments.has("why"))
    return report(context, {ErrorCode::invalid,
                            "--on all: shows all that runs; expected one box for one run"});
  const auto boxes = configured_boxes();
  if (!boxes) return report(context, boxes.error());
  const auto answers = ask_boxes(*boxes, question_of(context.arguments));
  if (context.json())
    context.console.print_text(document_of(answers).pretty() + "\n");
  else
    print_table(context.console, answers, context.arguments.flag("all"));
  int status = kExitOk;
  for (const BoxAnswer& answer : answers) {
    if (!context.json()) print_rest(context.console, answer);
    if (!answer.document) status = kExitUnavailable;
  }
  return status;
}

}  // namespace loam::cli
