// What this program writes, and how: colour and progress only on terminals, plain lines elsewhere.
//
// Our own text goes through printable() before it gets here where any of it came from elsewhere;
// raw() passes a job's bytes as they are.
#pragma once

#include <string>
#include <string_view>

namespace loam::cli {

class Console {
 public:
  // Looks at descriptors 0 to 2 and at NO_COLOR and TERM.
  Console();
  // For tests: writes to these descriptors.
  Console(int out, int err, bool terminal);

  bool input_terminal() const { return input_terminal_; }
  bool out_terminal() const { return out_terminal_; }
  bool error_terminal() const { return error_terminal_; }
  int columns() const;

  // A line of the answer, on standard output.
  void print(std::string_view line);
  // Text that already ends as it should (JSON, tables, help).
  void print_text(std::string_view text);
  // A line about the program itself, on standard error, after "loam: ".
  void warn(std::string_view line);
  void warn_text(std::string_view text);
  // A job's bytes, unchanged.
  void raw(std::string_view bytes);
  void raw_error(std::string_view bytes);
  // One line that the next one replaces; nothing where standard output is no terminal.
  void progress(std::string_view line);
  void clear_progress();

  // For standard output; the text itself where there is no colour.
  std::string bold(std::string_view text) const { return styled("1", text); }
  std::string dim(std::string_view text) const { return styled("2", text); }
  std::string red(std::string_view text) const { return styled("31", text); }
  std::string green(std::string_view text) const { return styled("32", text); }
  std::string yellow(std::string_view text) const { return styled("33", text); }

  // A reader that has gone (EPIPE): nothing more can be said there.
  bool broken() const { return broken_; }

 private:
  std::string styled(std::string_view code, std::string_view text) const;
  void write(int fd, std::string_view text);
  void to_line_start();

  int out_ = 1;
  int error_ = 2;
  bool input_terminal_ = false;
  bool out_terminal_ = false;
  bool error_terminal_ = false;
  bool colour_ = false;
  bool progress_shown_ = false;
  bool at_line_start_ = true;  // of standard output
  bool broken_ = false;
};

}  // namespace loam::cli
