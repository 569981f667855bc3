// The kernel's control files (cgroups): one write(2) each, never made by a typo.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace loam::sandbox {

Result<void> write_control(const std::string& path, std::string_view value);

}  // namespace loam::sandbox
