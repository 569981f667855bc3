#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace loam::store {

// Names in an open folder, sorted, without . and .. ; at most `names_max` (else too_large).
Result<std::vector<std::string>> names_in(int folder_fd, std::size_t names_max);

}  // namespace loam::store
