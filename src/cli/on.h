// `--on BOX`, which every verb that talks to a node has: ssh:HOST, or a name of the user's
// boxes.yaml. `loam ps --on all` and `loam up --on any` mean the boxes of that file, in its order.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "boxes/address.h"
#include "cli/submission.h"
#include "cli/verb.h"

namespace loam::cli {

inline constexpr const char* kOn = "on";
inline constexpr const char* kEveryBox = "all";
inline constexpr const char* kAnyBox = "any";

Option on_option();
// Gives it to each verb that is not of this machine alone.
void add_on_options(std::vector<Verb>& verbs);
// "" or why a verb without it refuses it.
std::string on_problem(const Verb& verb, const std::string& full_name,
                       const std::vector<std::string>& words);

// $XDG_CONFIG_HOME/loam/boxes.yaml; LOAM_BOXES names another.
std::string boxes_file();
// Of the file; its problems, or that it names none, are the error.
Result<std::vector<boxes::Address>> configured_boxes();
// What --on says.
Result<boxes::Address> box_named(const std::string& on);

// " --on BOX" behind verbs that are offered; "" without a box.
std::string on_words(const Context& context);

// Connects on first use; the verb's node is the box's from then on.
Result<boxes::Box*> box_of(Context& context);

}  // namespace loam::cli
