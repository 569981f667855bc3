// `loam models`: the lines of versions that runs made or that were imported.
#include <cstdlib>

#include "base/clock.h"
#include "base/text.h"
#include "cli/box_project.h"
#include "cli/signals.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

std::string origin_of(const Json& version) {
  if (version["run"].as_int() > 0)
    return "run " + std::to_string(version["run"].as_int()) +
           (version.has("step") ? "/" + version["step"].as_string() : "");
  if (version["imported"].is_string()) return "imported from " + version["imported"].as_string();
  return version["imported"].as_bool() ? "imported" : "";
}

void add_version(Table& table, const std::string& model, const Json& version) {
  table.rows.push_back({model + "@" + plain_text(version["version"]),
                        short_digest(version["tree"].as_string()),
                        format_bytes(version["size_bytes"]),
                        format_age(version["created_ms"].as_int(), wall_ms()), origin_of(version)});
}

Table version_table() { return {{"MODEL", "TREE", "SIZE", "AGE", "FROM"}, {}, {2, 3}}; }

int list_models(Context& context) {
  const Answer answer = ask(context, "GET", "/v1/models");
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  Table table = version_table();
  for (const Json& model : answer.body["models"].as_array())
    for (const Json& version : model["versions"].as_array())
      add_version(table, model["name"].as_string(), version);
  if (table.rows.empty())
    context.console.print(
        "no models yet: a step with `output:` makes one, loam models import takes one in");
  else
    context.console.print_text(format_table(table));
  return kExitOk;
}

void print_files(Console& console, const Json& files) {
  Table table{{"FILE", "SIZE"}, {}, {1}};
  for (const Json& file : files.as_array())
    table.rows.push_back({file["path"].as_string(), format_bytes(file["size_bytes"])});
  if (!table.rows.empty()) console.print_text("\n" + format_table(table));
}

int show_model(Context& context) {
  const Answer answer =
      ask(context, "GET",
          "/v1/models/" + engines::percent_encoded_path(context.arguments.value("NAME[@N]")));
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  Table table = version_table();
  const std::string name = answer.body["name"].as_string();
  for (const Json& version : answer.body["versions"].as_array()) add_version(table, name, version);
  if (table.rows.empty()) add_version(table, name, answer.body);
  context.console.print_text(format_table(table));
  print_files(context.console, answer.body["files"]);
  return kExitOk;
}

// One line of what was no part of the model; nothing where all was taken.
void tell_left_out(Console& console, const Json& imported) {
  const std::vector<std::string> names = imported["left_out"].as_strings();
  if (names.empty()) return;
  const auto more = imported["left_out_count"].as_int() - static_cast<std::int64_t>(names.size());
  console.warn("left out (.git, sockets, fifos and devices are no part of a model): " + printable(join(names, ", ")) +
               (more > 0 ? " and " + std::to_string(more) + " more" : ""));
}

int import_model(Context& context) {
  const std::string path = context.arguments.value("PATH");
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) {
    const auto failure = fail_errno(printable(path));
    return report(context, {failure.value().code, failure.value().text + "; expected the folder that holds the model's files"});
  }
  const std::string folder(resolved);
  ::free(resolved);
  const std::string name = context.arguments.value("name", folder.substr(folder.rfind('/') + 1));
  if (!is_utf8(folder) || !is_utf8(name))
    return report(context, {ErrorCode::invalid, "the folder's path is no UTF-8 text"});
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  Json body = Json::object({{"path", folder}, {"name", name}});
  auto delivery = deliver_model(context, body);
  if (!delivery) return report(context, delivery.error());
  Signals signals;
  const engines::Wake wake{signals.fd(), [&] {
                             const int number = signals.next();
                             return number == 0 || number == SIGWINCH;
                           }};
  // The node ends what it does for a client that goes away.
  auto imported = node->call("POST", "/v1/models/import", body, &wake);
  if (*delivery)  // the store has it, or nobody wants it
    if (const auto removed = (*delivery)->remove(); !removed) context.console.warn(removed.error().text);
  if (!imported && imported.error().code == ErrorCode::cancelled) imported.error().text = "interrupted; nothing was imported";
  if (!imported) return report(context, imported.error());
  tell_left_out(context.console, *imported);
  if (context.json())
    context.console.print_text(imported->pretty() + "\n");
  else
    context.console.print("imported " + plain_text((*imported)["name"]) + "@" + plain_text((*imported)["version"]));
  return kExitOk;
}

int remove_models(Context& context) {
  int status = kExitOk;
  for (const std::string& name : context.arguments.list("NAME[@N]")) {
    const Answer answer =
        ask(context, "DELETE", "/v1/models/" + engines::percent_encoded_path(name));
    if (answer.status == kExitOk)
      context.console.print("removed " + printable(name));
    else
      status = answer.status;
  }
  return status;
}

}  // namespace

Verb models_verb() {
  Verb list{"ls",
            "all models and their versions",
            "loam models ls",
            {json_option()},
            {},
            false,
            list_models,
            {}};
  Verb show{"show",
            "one model or version, with its files",
            "loam models show digits\nloam models show digits@3 --json",
            {json_option()},
            {{"NAME[@N]", "a model or one of its versions"}},
            false,
            show_model,
            {}};
  Verb import{"import",
              "take a folder in as a model's next version",
              "loam models import ./weights --name resnet",
              {{"--name", "NAME", "the model's name (the folder's)"}, json_option()},
              {{"PATH", "the folder"}},
              false,
              import_model,
              {}};
  Verb remove{"rm",
              "remove a model or a version that nothing serves",
              "loam models rm digits@3",
              {},
              {{"NAME[@N]", "a model or one of its versions", true, true}},
              false,
              remove_models,
              {}};
  Verb verb;
  verb.name = "models";
  verb.summary = "what steps made and what was imported: ls, show, import, rm";
  verb.examples =
      "loam models ls\nloam models show digits\nloam models import ./weights --name resnet";
  verb.verbs = {list, show, import, remove};
  return verb;
}

}  // namespace loam::cli
