// `loam token`: what stands for a user where the node is reached over the network.
#include "base/clock.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

int create_token(Context& context) {
  Json body = Json::object();
  for (const char* key : {"name", "scope"})
    if (context.arguments.has(key)) body.set(key, context.arguments.value(key));
  if (context.arguments.has("expires")) {
    const auto lasts = parse_duration(context.arguments.value("expires"));
    if (!lasts || lasts->count() <= 0)
      return report(context, {ErrorCode::invalid, "--expires: expected a duration such as 30d or 12h, found '" +
                                                      printable(context.arguments.value("expires")) + "'"});
    body.set("expires_ms",
             wall_ms() + std::chrono::duration_cast<std::chrono::milliseconds>(*lasts).count());
  }
  const Answer answer = ask(context, "POST", "/v1/tokens", body);
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  context.console.warn("token " + printable(answer.body["name"].as_string()) + ", scope " +
                       printable(answer.body["scope"].as_string()) + "; it is shown this once");
  context.console.print(printable(answer.body["token"].as_string()));
  return kExitOk;
}

std::string day_of(const Json& ms) { return ms.is_null() ? "" : format_time(ms.as_int()).substr(0, 16) + "Z"; }

int list_tokens(Context& context) {
  const Answer answer = ask(context, "GET", "/v1/tokens");
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  Table table{{"ID", "NAME", "SCOPE", "CREATED", "EXPIRES", "USED"}, {}, {0}};
  for (const Json& token : answer.body["tokens"].as_array())
    table.rows.push_back({plain_text(token["id"]), token["name"].as_string(), token["scope"].as_string(),
                          day_of(token["created_ms"]), day_of(token["expires_ms"]), day_of(token["used_ms"])});
  if (!table.rows.empty()) context.console.print_text(format_table(table));
  return kExitOk;
}

int revoke_tokens(Context& context) {
  int status = kExitOk;
  for (const std::string& which : context.arguments.list("TOKEN")) {
    const Answer answer = ask(context, "DELETE", "/v1/tokens/" + engines::percent_encoded(which));
    if (answer.status != kExitOk) status = answer.status;
  }
  return status;
}

}  // namespace

Verb token_verb() {
  Verb create;
  create.name = "create";
  create.summary = "make one that stands for you; it is shown this once";
  create.examples = "loam token create --name laptop --expires 30d\nloam token create --scope read";
  create.options = {{"--name", "NAME", "to know it by (token-N)"},
                    {"--scope", "SCOPE", "read: look; submit: also start and end work; admin: all that you may (submit)"},
                    {"--expires", "TIME", "such as 12h or 30d (never)"},
                    json_option()};
  create.run = create_token;
  Verb list;
  list.name = "ls";
  list.summary = "yours; never what is secret of them";
  list.examples = "loam token ls";
  list.options = {json_option()};
  list.run = list_tokens;
  Verb revoke;
  revoke.name = "revoke";
  revoke.summary = "they count no more, and what is open with them ends";
  revoke.examples = "loam token revoke laptop";
  revoke.positionals = {{"TOKEN", "its name or id, as in `loam token ls`", true, true}};
  revoke.run = revoke_tokens;
  Verb verb;
  verb.name = "token";
  verb.summary = "what stands for you over the network: create, ls, revoke";
  verb.examples = "loam token create --expires 30d\nloam token ls";
  verb.verbs = {create, list, revoke};
  return verb;
}

}  // namespace loam::cli
