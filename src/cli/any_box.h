// `loam up --on any`: the boxes of boxes.yaml are asked in their order for their plan (loam plan),
// and the first that would start the run now is taken. Nothing is kept of it, and nobody else is
// asked: between plan and submission another user may be faster, and the run then waits there as
// any other.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/submission.h"
#include "cli/verb.h"

namespace loam::cli {

// "" where the plan starts now all that it would run first, else what waits and why.
std::string why_not_now(const Json& plan);

// Without --on any: nothing. Else --on names a box afterwards; 75 where none fits now, 3 where none
// answers.
int choose_any_box(Context& context, const std::string& verb, const ProjectFile& file);

}  // namespace loam::cli
