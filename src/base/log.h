// The program's own log: one line per event on standard error, "TIME LEVEL text". A daemon's standard
// error is its log file. Libraries do not log: they return; the caller that decides logs once.
#pragma once

#include <string_view>

namespace loam {

void log_info(std::string_view text);
void log_warning(std::string_view text);
void log_error(std::string_view text);

}  // namespace loam
