// A command's streams, passed through: our standard input, terminal and window size to the shim,
// its output to our standard output and error, in attach frames (api/attach.h) on the connection
// that the node handed over.
//
//   stdin ──▶ input frames ──▶ shim ──▶ output, error, exit frames ──▶ stdout, stderr, ExitRecord
//
// Trust: frames are foreign bytes, checked by the FrameReader; their payload is the command's own
// output and passes as it is.
#pragma once

#include <termios.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "api/attach.h"
#include "base/json.h"
#include "base/result.h"
#include "cli/console.h"
#include "cli/signals.h"
#include "engines/http_exchange.h"

namespace loam::cli {

// The terminal behind `fd` in raw mode; as it was, when this goes.
class RawTerminal {
 public:
  explicit RawTerminal(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  bool active() const { return active_; }

 private:
  int fd_;
  bool active_ = false;
  termios before_{};
};

struct AttachOptions {
  bool terminal = false;
  bool input = false;
  int input_fd = 0;
  // An interrupt or termination that is not the command's own key: cancels it. A second one leaves;
  // without this the first does.
  std::function<void()> cancel;
};

struct AttachEnd {
  enum class Kind { exited, lost, left } kind = Kind::lost;
  Json exit_record;                // exited
  int status = 0;                  // left: how this program leaves
  bool interrupted = false;        // we cancelled it
  std::uint64_t output_bytes = 0;  // passed on so far
};

AttachEnd run_attach_session(Console& console, Signals& signals,
                             engines::Exchange::Upgraded connection, const AttachOptions& options);

struct WindowSize {
  std::uint16_t columns = 80;
  std::uint16_t rows = 24;
};
WindowSize window_size(int fd);
std::string resize_payload(WindowSize size);

}  // namespace loam::cli
