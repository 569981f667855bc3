// Opening paths in folders that others may write: no step leads out of the folder, and none through
// a link unless it is asked for (openat2(2), Linux 5.6).
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace loam {

enum class Links { refuse, follow_beneath };

// `flags` as open(2)'s; O_CLOEXEC and (but for O_PATH) O_NONBLOCK and O_NOCTTY are added, so that neither a fifo nor a
// terminal can hold or catch the caller. A link where none may be: ELOOP; a way out: EXDEV (errno
// is kept).
Result<Fd> open_beneath(int folder, const std::string& path, int flags,
                        Links links = Links::refuse);

}  // namespace loam
