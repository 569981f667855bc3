#include "cli/on.h"

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "boxes/kept_projects.h"
#include "spec/boxes_config.h"

namespace loam::cli {
namespace {

constexpr std::string_view kSshPrefix = "ssh:";
constexpr std::size_t kBoxesFileBytesMax = 1u << 20;

}  // namespace

Option on_option() { return {"--on", "BOX", "on another box: ssh:HOST, or a name of boxes.yaml"}; }

void add_on_options(std::vector<Verb>& verbs) {
  for (Verb& verb : verbs) {
    if (verb.run && !verb.here_only) verb.options.push_back(on_option());
    add_on_options(verb.verbs);
  }
}

std::string on_problem(const Verb& verb, const std::string& full_name,
                       const std::vector<std::string>& words) {
  if (!verb.here_only) return "";
  const bool given = std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word == "--on" || word.starts_with("--on=");
  });
  if (!given) return "";
  return "loam " + full_name +
         " is about the machine that it runs on; expected no --on (there: ssh BOX loam " +
         full_name + ")";
}

std::string boxes_file() {
  if (const auto named = engines::from_environment("LOAM_BOXES")) return *named;
  if (const auto config = engines::from_environment("XDG_CONFIG_HOME"))
    return *config + "/loam/boxes.yaml";
  return boxes::home_folder() + "/.config/loam/boxes.yaml";
}

Result<std::vector<boxes::Address>> configured_boxes() {
  const std::string path = boxes_file();
  const auto text = read_file(path, kBoxesFileBytesMax);
  if (!text && text.error().code == ErrorCode::not_found)
    return fail(
        ErrorCode::invalid,
        printable(path) + ": is not there; expected a file such as `boxes: {gpu1: anna@gpu1.lab}`");
  if (!text) return tl::unexpected(text.error());
  const auto read = spec::read_boxes_config(
      *text, {.destination = boxes::destination_problem, .program = boxes::program_problem});
  if (!read.problems.empty()) {
    std::string problems = spec::format_problems(printable(path), read.problems);
    if (problems.ends_with('\n')) problems.pop_back();
    return fail(ErrorCode::invalid, problems);
  }
  std::vector<boxes::Address> addresses;
  for (const spec::ConfiguredBox& box : read.boxes) {
    boxes::Address address{.name = box.name, .destination = box.ssh.empty() ? box.name : box.ssh};
    if (!box.program.empty()) address.program = box.program;
    addresses.push_back(std::move(address));
  }
  if (addresses.empty())
    return fail(ErrorCode::invalid,
                printable(path) +
                    ": names no boxes; expected some, such as `boxes: {gpu1: anna@gpu1.lab}`");
  return addresses;
}

Result<boxes::Address> box_named(const std::string& on) {
  if (on.starts_with(kSshPrefix)) {
    const std::string destination = on.substr(kSshPrefix.size());
    if (const std::string problem = boxes::destination_problem(destination); !problem.empty())
      return fail(ErrorCode::invalid, "--on: " + problem);
    return boxes::Address{.name = on, .destination = destination};
  }
  if (on == kEveryBox)
    return fail(ErrorCode::invalid, "--on all: only loam ps shows all boxes; expected one");
  if (on == kAnyBox)
    return fail(ErrorCode::invalid,
                "--on any: only loam up and loam train choose a box; expected one");
  const auto configured = configured_boxes();
  if (!configured)
    return in_context("--on '" + printable(on) + "' (no ssh:HOST, so a name)", configured.error());
  std::vector<std::string> names;
  for (const boxes::Address& address : *configured) {
    if (address.name == on) return address;
    names.push_back(address.name);
  }
  const std::string near = nearest(on, names);
  return fail(ErrorCode::invalid, "--on '" + printable(on) + "': " + printable(boxes_file()) +
                                      " has no such box, but " + join(names, ", ") +
                                      (near.empty() ? "" : "; did you mean '" + near + "'?") +
                                      " (one that it does not name: ssh:HOST)");
}

std::string on_words(const Context& context) {
  return context.arguments.has(kOn) ? " --on " + printable(context.arguments.value(kOn)) : "";
}

Result<boxes::Box*> box_of(Context& context) {
  if (!context.box) {
    const auto address = LOAM_TRY(box_named(context.arguments.value(kOn)));
    context.box = LOAM_TRY(boxes::Box::connect(address));
    if (context.box->started_node())
      context.console.warn("started a node at " + printable(context.box->node_socket()) + " of " +
                           address.name);
  }
  return &*context.box;
}

}  // namespace loam::cli
