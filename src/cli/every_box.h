#pragma once

#include "cli/verb.h"

namespace loam::cli {

// `loam ps --on all`: the boxes of boxes.yaml, all asked at once. Status 3 where one could not be.
int list_jobs_of_every_box(Context& context);

}  // namespace loam::cli
