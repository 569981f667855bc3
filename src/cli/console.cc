#include "cli/console.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace loam::cli {
namespace {

constexpr int kColumnsDefault = 80;

bool wants_colour() {
  const char* no_colour = ::getenv("NO_COLOR");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  const char* terminal = ::getenv("TERM");
  return terminal != nullptr && std::string_view(terminal) != "dumb";
}

// As many characters as columns, not as many bytes; escape sequences are not expected here.
std::string_view first_columns(std::string_view text, std::size_t columns) {
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
    if (seen++ == columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

Console::Console()
    : input_terminal_(::isatty(0) == 1),
      out_terminal_(::isatty(1) == 1),
      error_terminal_(::isatty(2) == 1),
      colour_(out_terminal_ && wants_colour()) {}

Console::Console(int out, int err, bool terminal)
    : out_(out),
      error_(err),
      out_terminal_(terminal),
      error_terminal_(terminal),
      colour_(terminal) {}

int Console::columns() const {
  winsize size{};
  if (::ioctl(out_, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kColumnsDefault;
  return size.ws_col;
}

std::string Console::styled(std::string_view code, std::string_view text) const {
  if (!colour_) return std::string(text);
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

void Console::write(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count >= 0) {
      text.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno == EAGAIN) {  // a descriptor that another program made non-blocking
      pollfd poll_fd{fd, POLLOUT, 0};
      (void)::poll(&poll_fd, 1, -1);
    } else if (errno != EINTR) {
      if (fd == out_) broken_ = true;
      return;
    }
  }
}

void Console::to_line_start() {
  clear_progress();
  if (!at_line_start_) write(out_, "\n");
  at_line_start_ = true;
}

void Console::print(std::string_view line) {
  to_line_start();
  write(out_, std::string(line) + "\n");
}

void Console::print_text(std::string_view text) {
  to_line_start();
  write(out_, text);
}

void Console::warn(std::string_view line) { warn_text("loam: " + std::string(line) + "\n"); }

void Console::warn_text(std::string_view text) {
  if (out_terminal_ && error_terminal_) to_line_start();
  write(error_, text);
}

void Console::raw(std::string_view bytes) {
  if (bytes.empty()) return;
  clear_progress();
  write(out_, bytes);
  at_line_start_ = bytes.back() == '\n';
}

void Console::raw_error(std::string_view bytes) { write(error_, bytes); }

void Console::progress(std::string_view line) {
  if (!out_terminal_) return;
  if (!progress_shown_) to_line_start();
  const auto width = static_cast<std::size_t>(columns() - 1);
  write(out_, "\r" + std::string(first_columns(line, width)) + "\x1b[K");
  progress_shown_ = true;
}

void Console::clear_progress() {
  if (!progress_shown_) return;
  write(out_, "\r\x1b[K");
  progress_shown_ = false;
}

}  // namespace loam::cli
