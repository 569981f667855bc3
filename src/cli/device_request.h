// --gpus, --device, --pin and --hugepages of `loam run`, as a command's submission carries them.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "cli/verb.h"

namespace loam::cli {

Result<void> add_device_requests(const Arguments& arguments, Json& command);

// "2", "2,model=H100,memory=40GiB". `option` is for errors: "--gpus".
Result<Json> parse_device_request(const std::string& option, const std::string& kind,
                                  const std::string& text);

}  // namespace loam::cli
