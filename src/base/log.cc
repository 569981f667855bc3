#include "base/log.h"

#include <fmt/format.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"

namespace loam {

// One write per line, so that lines of several threads and processes never mix.
static void write_line(std::string_view level, std::string_view text) {
  (void)write_full(2, fmt::format("{} {} {}\n", format_time(wall_ms()), level, printable(text)));
}

void log_info(std::string_view text) { write_line("info", text); }
void log_warning(std::string_view text) { write_line("warning", text); }
void log_error(std::string_view text) { write_line("error", text); }

}  // namespace loam
