// From the caller's folder and environment to the document of POST /v1/runs. The file is checked
// here first, so that a wrong one is told of without a node.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cli/console.h"
#include "cli/signals.h"
#include "cli/verb.h"
#include "engines/local_node.h"
#include "spec/project.h"

namespace loam::cli {

struct ProjectFile {
  std::string shown;   // as the caller named it: what problems are prefixed with
  std::string folder;  // absolute, without symlinks
  std::string name;    // the file's name within the folder
  std::string text;
  spec::Project project;
};

// Reads and checks `path`. Problems go to standard error, a line each; nullopt then (exit status
// 2).
std::optional<ProjectFile> read_project_file(
    Console& console, const std::string& path,
    const std::vector<std::string>* known_models = nullptr);

// The common part: project, file, text, secrets' values from the environment, the host's way to its
// package registries. `file` null: the current folder without a loam.yaml.
Result<Json> submission(const std::string& verb, const ProjectFile* file);

// --account and --priority of a verb that submits, into the document.
std::vector<Option> queue_options();
Result<void> add_queue_options(const Arguments& arguments, Json& body);

// POST of `body` to `path` (/v1/runs, /v1/shell), while signals are heard: an interrupt waits for
// the run's number, so that the run can be cancelled; a second one, or a hang-up, leaves.
struct Submitted {
  std::int64_t run = 0;  // 0: not submitted, `status` says how to leave
  int status = 0;
  bool interrupted = false;
  std::string live;  // of /v1/shell: the running attempt to join instead
};
Submitted submit(Console& console, const engines::LocalNode& node, Signals& signals,
                 const std::string& path, const Json& body, const std::string& shown);

// A refusal of a submission: problems as of the file, else "loam: TEXT". Returns the exit status.
int report_refusal(Console& console, const Json& body, int status, const std::string& shown);

}  // namespace loam::cli
