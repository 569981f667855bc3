#include "cli/attach_session.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "cli/verb.h"

namespace loam::cli {
namespace {

// Input is read only while less than this waits to be sent: the command's pace is the reader's.
constexpr std::size_t kUnsentBytesMax = 128u << 10;
constexpr std::size_t kInputReadBytes = 32u << 10;
constexpr std::size_t kReceiveBytes = 64u << 10;

class Session {
 public:
  Session(Console& console, Signals& signals, engines::Exchange::Upgraded connection,
          const AttachOptions& options)
      : console_(console),
        signals_(signals),
        connection_(std::move(connection.connection)),
        options_(options),
        reads_input_(options.input) {
    frames_.add(connection.early);
  }

  AttachEnd run() {
    if (options_.terminal)
      send(api::AttachFrame::resize, resize_payload(window_size(options_.input_fd)));
    if (!options_.input) send(api::AttachFrame::input, "");  // there will be none
    bool open = take_frames();
    while (open) open = turn();
    return std::move(end_);
  }

 private:
  void send(api::AttachFrame type, std::string_view payload) {
    unsent_ += api::encode_frame(type, payload);
  }

  // One round of waiting; false: ended, lost or left.
  bool turn() {
    const bool wants_input = reads_input_ && unsent_.size() < kUnsentBytesMax;
    pollfd polls[3] = {
        {signals_.fd(), POLLIN, 0},
        {connection_.get(), static_cast<short>(POLLIN | (unsent_.empty() ? 0 : POLLOUT)), 0},
        {wants_input ? options_.input_fd : -1, POLLIN, 0}};
    if (::poll(polls, 3, -1) < 0) return errno == EINTR;
    if (polls[0].revents != 0 && !take_signals()) return false;
    if (polls[2].revents != 0) read_input();
    if ((polls[1].revents & POLLOUT) != 0) flush();
    if ((polls[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !receive()) return false;
    return !reader_is_gone();
  }

  bool take_signals() {
    for (int number = signals_.next(); number != 0; number = signals_.next()) {
      if (number == SIGWINCH) {
        if (options_.terminal)
          send(api::AttachFrame::resize, resize_payload(window_size(options_.input_fd)));
      } else if (number == SIGHUP || end_.interrupted || !options_.cancel) {
        return leave(kExitSignal + number);
      } else {
        interrupt();
      }
    }
    return true;
  }

  void interrupt() {
    end_.interrupted = true;
    if (options_.cancel) options_.cancel();
  }

  // Standard output's reader has gone: nobody wants what the command still says.
  bool reader_is_gone() {
    if (!console_.broken()) return false;
    interrupt();
    return !leave(kExitSignal + SIGPIPE);
  }

  bool leave(int status) {
    end_.kind = AttachEnd::Kind::left;
    end_.status = status;
    return false;
  }

  void read_input() {
    std::array<char, kInputReadBytes> buffer;
    const ssize_t count = ::read(options_.input_fd, buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
      reads_input_ = false;
      // The end of input. A terminal has none but its key, once for a begun line and once more.
      if (options_.terminal) send(api::AttachFrame::input, "\x04\x04");
      send(api::AttachFrame::input, "");
      return;
    }
    send(api::AttachFrame::input, {buffer.data(), static_cast<std::size_t>(count)});
  }

  void flush() {
    const ssize_t count =
        ::send(connection_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) unsent_.erase(0, static_cast<std::size_t>(count));
    // The other end has gone: what it still sent is read, then receive() finds the end.
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
      unsent_.clear();
      reads_input_ = false;
    }
  }

  bool receive() {
    std::array<char, kReceiveBytes> buffer;
    const ssize_t count = ::recv(connection_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (count <= 0) return false;
    frames_.add({buffer.data(), static_cast<std::size_t>(count)});
    return take_frames();
  }

  bool take_frames() {
    for (;;) {
      auto frame = frames_.next();
      if (!frame || (*frame && !take(**frame))) return false;
      if (!*frame) return true;
    }
  }

  // False: that was the last frame, or none that a shim may send.
  bool take(const api::Frame& frame) {
    switch (frame.type) {
      case api::AttachFrame::output:
        end_.output_bytes += frame.payload.size();
        console_.raw(frame.payload);
        return true;
      case api::AttachFrame::error:
        end_.output_bytes += frame.payload.size();
        console_.raw_error(frame.payload);
        return true;
      case api::AttachFrame::exit: {
        auto record = Json::parse(frame.payload);
        if (!record || !record->is_object()) return false;
        end_.kind = AttachEnd::Kind::exited;
        end_.exit_record = std::move(*record);
        return false;
      }
      default:
        return false;
    }
  }

  Console& console_;
  Signals& signals_;
  Fd connection_;
  const AttachOptions& options_;
  api::FrameReader frames_;
  std::string unsent_;
  bool reads_input_;
  AttachEnd end_;
};

}  // namespace

RawTerminal::RawTerminal(int fd) : fd_(fd) {
  if (::tcgetattr(fd_, &before_) != 0) return;
  termios raw = before_;
  ::cfmakeraw(&raw);
  active_ = ::tcsetattr(fd_, TCSADRAIN, &raw) == 0;
}

RawTerminal::~RawTerminal() {
  if (active_) ::tcsetattr(fd_, TCSADRAIN, &before_);
}

WindowSize window_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

std::string resize_payload(WindowSize size) {
  std::string payload;
  for (const std::uint16_t value : {size.columns, size.rows}) {
    payload += static_cast<char>(value & 255);
    payload += static_cast<char>(value >> 8);
  }
  return payload;
}

AttachEnd run_attach_session(Console& console, Signals& signals,
                             engines::Exchange::Upgraded connection, const AttachOptions& options) {
  std::optional<RawTerminal> raw;
  if (options.terminal && options.input && ::isatty(options.input_fd) == 1)
    raw.emplace(options.input_fd);
  return Session(console, signals, std::move(connection), options).run();
}

}  // namespace loam::cli
