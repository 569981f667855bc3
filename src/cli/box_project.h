// A verb's project on the box that --on names: pushed before it is submitted, with loam.lock
// brought back. Without --on nothing happens here, and the project stays this machine's folder.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "boxes/push.h"
#include "cli/submission.h"
#include "cli/verb.h"

namespace loam::cli {

// While it lives the project on the box stays what was pushed: until the submission's answer.
using Delivery = std::optional<boxes::Push>;

// Pushes the folder that the document of a submission names, and has it name the box's instead.
// `file` null: a command without a loam.yaml.
Result<Delivery> deliver(Context& context, Json& body, const ProjectFile* file);
// The same for a model's folder.
Result<Delivery> deliver_model(Context& context, Json& body);

// A loam.lock that the box has made since is written here, as a node of this machine would have.
void bring_lock_back(Context& context, const std::string& folder);

// Where the project of this folder lies on the box, pushed or not.
Result<std::string> folder_on_box(Context& context, const std::string& folder);

}  // namespace loam::cli
