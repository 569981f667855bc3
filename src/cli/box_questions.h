// What another `loam VERB --json --on BOX` says, of one box or of many at once. A process of its
// own for each, with a limit: a box that hangs holds up no other.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "boxes/address.h"

namespace loam::cli {

struct BoxAnswer {
  std::string box;
  Result<Json> document;  // unavailable: the box could not be reached in time
};
// In the order of the boxes. `words`: a verb and its options, without --json and --on.
std::vector<BoxAnswer> ask_boxes(const std::vector<boxes::Address>& boxes,
                                 const std::vector<std::string>& words);

}  // namespace loam::cli
