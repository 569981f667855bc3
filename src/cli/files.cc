// `loam files TARGET [PATH]`: what an attempt created or changed in its project folder.
#include "base/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

int list_files(Context& context, const std::string& path) {
  const Answer answer = ask(context, "GET", path);
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  Table table{{"PATH", "SIZE", "CHANGE"}, {}, {1}};
  for (const Json& file : answer.body["files"].as_array())
    table.rows.push_back(
        {file["path"].as_string(), format_bytes(file["size_bytes"]), file["change"].as_string()});
  if (table.rows.empty())
    context.console.print("the attempt changed no files");
  else
    context.console.print_text(format_table(table));
  return kExitOk;
}

// FILE, or FILE/NAME where FILE is a folder.
std::string output_path(const std::string& wanted, const std::string& path) {
  struct stat facts {};
  if (::stat(wanted.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) return wanted;
  return wanted + "/" + path.substr(path.rfind('/') + 1);
}

int fetch_file(Context& context, const std::string& url, const std::string& path) {
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  Fd out;
  std::string name;
  Result<void> written;
  const auto take = [&](std::string_view bytes) {
    if (name.empty()) {
      context.console.raw(bytes);
      return !context.console.broken();
    }
    written = write_full(out.get(), bytes);
    return written.has_value();
  };
  if (context.arguments.has("output")) {
    name = output_path(context.arguments.value("output"), path);
    out = Fd(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!out) {
      const auto failure = fail_errno(name);
      return report(context, failure.value());
    }
  }
  const auto done = node->stream("GET", url + "?path=" + engines::percent_encoded(path), {}, take);
  if (!done) return report(context, done.error());
  if (!written) return report(context, {written.error().code, name + ": " + written.error().text});
  return kExitOk;
}

int show_files(Context& context) {
  const std::string url =
      "/v1/files/" + engines::percent_encoded_path(context.arguments.value("TARGET"));
  const std::string path = context.arguments.value("PATH");
  if (!path.empty()) return fetch_file(context, url, path);
  if (context.arguments.has("output"))
    return report(context, {ErrorCode::invalid, "-o needs the PATH of one file"});
  return list_files(context, url);
}

}  // namespace

Verb files_verb() {
  Verb verb;
  verb.name = "files";
  verb.summary = "what an attempt created or changed in its project folder";
  verb.positionals = {{"TARGET", "RUN[/STEP[/ATTEMPT]]"},
                      {"PATH", "print this file's content", false}};
  verb.options = {{"-o,--output", "FILE", "write the content there"}, json_option()};
  verb.examples = "loam files 17/train\nloam files 17/train plots/loss.png -o loss.png";
  verb.run = show_files;
  return verb;
}

}  // namespace loam::cli
