// `loam store`: what is kept on disk, whether it is whole, and what may go.
#include "base/text.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/words.h"
#include "engines/sse.h"

namespace loam::cli {
namespace {

constexpr int kBarWidth = 24;

// What somebody has put into the store's folders.
void tell_foreign(Context& context, const Json& answer) {
  for (const std::string& name : answer["foreign"].as_strings())
    context.console.warn("store/" + printable(name) + " is not the store's own and is left alone; move it away");
}

int list_store(Context& context) {
  const Answer answer = ask(context, "GET", "/v1/store");
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  Table table{{"KIND", "NAME", "DIGEST", "SIZE", "WHY"}, {}, {3}};
  for (const Json& item : answer.body["items"].as_array())
    table.rows.push_back({item["kind"].as_string(), item["name"].as_string(),
                          short_digest(item["digest"].as_string()),
                          format_bytes(item["size_bytes"]), item["why"].as_string()});
  if (!table.rows.empty()) context.console.print_text(format_table(table));
  context.console.print(plain_text(answer.body["trees"]) + " trees, " +
                        plain_text(answer.body["objects"]) + " objects, " +
                        plain_text(answer.body["blobs"]) + " blobs; " +
                        format_bytes(answer.body["size_bytes"]) + " used, " +
                        format_bytes(answer.body["disk_free_bytes"]) + " free");
  tell_foreign(context, answer.body);
  return kExitOk;
}

int print_damage(Context& context, const Json& done) {
  const auto& damage = done["damage"].as_array();
  if (context.json()) {
    context.console.print_text(done.pretty() + "\n");
  } else if (damage.empty()) {
    context.console.print("everything is what its name says");
  } else {
    for (const Json& item : damage)
      context.console.print(plain_text(item["what"]) + ": " + plain_text(item["finding"]));
  }
  return damage.empty() ? kExitOk : kExitFailure;
}

int verify_store(Context& context) {
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  engines::SseParser parser;
  std::optional<Json> done;
  std::optional<Error> wrong;
  const auto take = [&](const engines::Event& event) {
    if (event.kind == "done") done = event.data;
    if (event.kind == "done" && event.data.has("error"))
      wrong = Error{ErrorCode::io, plain_text(event.data["error"])};
    const std::int64_t total = event.data["total"].as_int();
    if (event.kind == "progress" && !context.json())
      context.console.progress("verifying " +
                               progress_bar(event.data["done"].as_int(), total, kBarWidth) + " " +
                               plain_text(event.data["done"]) + "/" + std::to_string(total));
  };
  const auto ended = node->stream("POST", "/v1/store/verify", {}, [&](std::string_view bytes) {
    auto events = parser.add(bytes);
    if (!events) wrong = events.error();
    if (events)
      for (const auto& event : *events) take(event);
    return events.has_value();
  });
  context.console.clear_progress();
  if (!ended) return report(context, ended.error());
  if (wrong) return report(context, *wrong);
  if (!done)
    return report(context, {ErrorCode::corrupt, "the node ended the check without a result"});
  return print_damage(context, *done);
}

int collect_garbage(Context& context) {
  const bool dry_run = context.arguments.flag("dry-run");
  const Answer answer = ask(context, "POST", "/v1/store/gc", Json::object({{"dry_run", dry_run}}));
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  std::vector<std::string> parts;
  for (const char* what : {"runs", "versions", "attempts", "trees", "objects", "blobs"})
    if (const auto count = answer.body[std::string("removed_") + what].as_int(); count > 0)
      parts.push_back(std::to_string(count) + " " + what);
  const std::string removed = parts.empty() ? "nothing" : join(parts, ", ");
  context.console.print((dry_run ? "would remove " : "removed ") + removed + "; " +
                        format_bytes(answer.body["freed_bytes"]) +
                        (dry_run ? " would be free" : " freed"));
  tell_foreign(context, answer.body);
  return kExitOk;
}

}  // namespace

Verb store_verb() {
  Verb list{"ls", "what is kept and why", "loam store ls", {json_option()}, {}, false, list_store,
            {}};
  Verb verify{"verify",
              "hash everything again",
              "loam store verify",
              {json_option()},
              {},
              false,
              verify_store,
              {}};
  Verb collect{"gc",
               "remove what no kept run, version or lock names (keep: in loam.yaml)",
               "loam store gc --dry-run\nloam store gc",
               {{"--dry-run", "", "only say what would go"}, json_option()},
               {},
               false,
               collect_garbage,
               {}};
  Verb verb;
  verb.name = "store";
  verb.summary = "what is kept on disk: ls, verify, gc";
  verb.examples = "loam store ls\nloam store gc --dry-run";
  verb.verbs = {list, verify, collect};
  return verb;
}

}  // namespace loam::cli
