#include "cli/submission.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "base/text.h"
#include "engines/local_node.h"
#include "engines/way_to_registries.h"

namespace loam::cli {
namespace {

Result<std::string> real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return fail_errno(path);
  std::string text(resolved);
  ::free(resolved);
  return text;
}

// The file as given, its folder, its name. A fifo or a device in its place must not hang us.
Result<ProjectFile> open_project_file(const std::string& path) {
  ProjectFile file;
  file.shown = path;
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    const std::string mend =
        errno == ENOENT ? "; name it with -f FILE, or write one (loam help up)" : "";
    return fail(ErrorCode::invalid, path + ": " + ::strerror(errno) + mend);
  }
  struct stat facts {};
  if (::fstat(fd.get(), &facts) != 0) return fail_errno(path);
  if (!S_ISREG(facts.st_mode))
    return fail(ErrorCode::invalid, path + ": not a regular file; expected a loam.yaml");
  // One byte over the limit is enough for the reader to refuse it with a place, as every other
  // problem.
  file.text.resize(std::min(static_cast<std::size_t>(facts.st_size), spec::kFileBytesMax + 1));
  file.text.resize(LOAM_TRY(read_full(fd.get(), std::as_writable_bytes(std::span(file.text)))));
  const auto slash = path.rfind('/');
  file.name = slash == std::string::npos ? path : path.substr(slash + 1);
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  file.folder = LOAM_TRY(real_path(folder));
  return file;
}

Result<Json> secrets_of(const spec::Project& project) {
  Json secrets = Json::object();
  for (const std::string& name : project.secrets) {
    const char* value = ::getenv(name.c_str());
    if (value == nullptr) continue;  // the node may hold it (loam secret)
    if (!is_utf8(value))
      return fail(ErrorCode::invalid,
                  "the secret " + name + " in the environment is no UTF-8 text");
    secrets.set(name, value);
  }
  return secrets;
}

}  // namespace

std::optional<ProjectFile> read_project_file(Console& console, const std::string& path,
                                             const std::vector<std::string>* known_models) {
  auto file = open_project_file(path);
  if (!file) {
    console.warn(file.error().text);
    return std::nullopt;
  }
  const spec::DiskFolder folder(file->folder);
  spec::ReadResult read = spec::read_project(file->text, &folder, known_models);
  if (!read.project) {
    console.warn_text(spec::format_problems(file->shown, read.problems));
    return std::nullopt;
  }
  file->project = std::move(*read.project);
  return std::move(*file);
}

Result<Json> submission(const std::string& verb, const ProjectFile* file) {
  Json body = Json::object({{"verb", verb}, {"proxy_environment", engines::way_to_registries()}});
  if (file == nullptr) {
    body.set("project", LOAM_TRY(real_path(".")));
    body.set("file", "loam.yaml");
    body.set("text", nullptr);
    body.set("secrets", Json::object());
  } else {
    body.set("project", file->folder);
    body.set("file", file->name);
    body.set("text", file->text);
    body.set("secrets", LOAM_TRY(secrets_of(file->project)));
  }
  if (!is_utf8(body["project"].as_string()))
    return fail(ErrorCode::invalid, "the project folder's path is no UTF-8 text");
  return body;
}

std::vector<Option> queue_options() {
  return {{"--account", "NAME", "the account that it counts against"},
          {"--priority", "N", "before or after others, -1000 to 1000; above 0 for root alone (the file's)"}};
}

Result<void> add_queue_options(const Arguments& arguments, Json& body) {
  if (arguments.has("account")) body.set("account", arguments.value("account"));
  if (!arguments.has("priority")) return {};
  const std::string text = arguments.value("priority");
  std::int64_t priority = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), priority);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::invalid, "--priority '" + printable(text) +
                                        "': expected a whole number from -1000 to 1000");
  body.set("priority", priority);
  return {};
}

Submitted submit(Console& console, const engines::LocalNode& node, Signals& signals,
                 const std::string& path, const Json& body, const std::string& shown) {
  Submitted submitted;
  const engines::Wake wake{signals.fd(), [&] {
                             const int number = signals.next();
                             if (number == 0 || number == SIGWINCH) return true;
                             submitted.status = kExitSignal + number;
                             return number != SIGHUP && !std::exchange(submitted.interrupted, true);
                           }};
  const auto response = node.request("POST", path, body, &wake);
  if (!response) {
    console.warn(response.error().text);
    if (response.error().code == ErrorCode::unavailable) submitted.status = kExitUnavailable;
    if (submitted.status == kExitOk) submitted.status = kExitFailure;
    return submitted;
  }
  if (!response->ok()) {
    submitted.status = report_refusal(console, response->body, response->status, shown);
    return submitted;
  }
  submitted.live = printable(response->body["live"].as_string());
  if (!submitted.live.empty()) return submitted;
  submitted.run = response->body["run"].as_int();
  if (submitted.run > 0) return submitted;
  console.warn("the node took the submission but named no run");
  submitted.status = kExitFailure;
  return submitted;
}

int report_refusal(Console& console, const Json& body, int status, const std::string& shown) {
  std::vector<spec::Problem> problems;
  for (const Json& item : body["problems"].as_array()) {
    spec::Problem problem;
    problem.place.line = static_cast<int>(item["line"].as_int());
    problem.place.column = static_cast<int>(item["column"].as_int());
    problem.key = printable(item["key"].as_string());
    problem.message = printable(item["message"].as_string());
    problems.push_back(std::move(problem));
  }
  if (!problems.empty()) {
    console.warn_text(spec::format_problems(shown, problems));
    return kExitUsage;
  }
  const Error error = engines::error_of({status, body});
  console.warn(error.text);
  if (error.code == ErrorCode::unavailable) return kExitUnavailable;
  return error.code == ErrorCode::invalid ? kExitUsage : kExitFailure;
}

}  // namespace loam::cli
