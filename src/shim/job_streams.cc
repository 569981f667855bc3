#include "shim/job_streams.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace loam::shim {
namespace {

constexpr std::size_t kPendingInputBytesMax = 256 * 1024;
constexpr std::size_t kReadBytes = 32 * 1024;
constexpr char kEndOfTransmission = '\4';  // VEOF's default

void make_nonblocking(const Fd& fd) {
  if (fd) (void)::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

}  // namespace

void JobStreams::take_pipes(sandbox::Sandbox& sandbox) {
  input_ = std::move(sandbox.input);
  output_ = std::move(sandbox.output);
  error_ = std::move(sandbox.error);
  for (const Fd* fd : {&input_, &output_, &error_}) make_nonblocking(*fd);
  pipes_came_ = true;
  write_input();
}

void JobStreams::take_terminal(Fd master) {
  terminal_came_ = true;
  if (hung_up_) return;
  output_ = std::move(master);
  make_nonblocking(output_);
  apply_size();
  write_input();
}

void JobStreams::add_input(std::string_view bytes) {
  if (bytes.empty()) {
    if (terminal_)
      pending_input_.push_back(kEndOfTransmission);
    else
      input_ends_ = true;
  }
  pending_input_ += bytes;
  write_input();
}

void JobStreams::end_input() {
  if (terminal_) return;
  input_ends_ = true;
  write_input();
}

void JobStreams::hang_up(const Sink& sink) {
  hung_up_ = true;
  pending_input_.clear();
  if (!terminal_) return;
  drain(sink);
  output_.reset();
}

bool JobStreams::takes_input() const { return pending_input_.size() < kPendingInputBytesMax; }

// The size may come before the terminal does.
void JobStreams::resize(unsigned columns, unsigned rows) {
  columns_ = static_cast<std::uint16_t>(columns);
  rows_ = static_cast<std::uint16_t>(rows);
  apply_size();
}

void JobStreams::apply_size() {
  if (!terminal_ || !output_ || columns_ == 0) return;
  winsize size{};
  size.ws_col = columns_;
  size.ws_row = rows_;
  (void)::ioctl(output_.get(), TIOCSWINSZ, &size);
}

pid_t JobStreams::foreground_group() const {
  if (!terminal_ || !output_) return 0;
  const pid_t group = ::tcgetpgrp(output_.get());
  return group > 1 ? group : 0;
}

void JobStreams::write_input() {
  if (terminal_ ? !terminal_came_ : !pipes_came_) return;
  const Fd& to = terminal_ ? output_ : input_;
  while (to && !pending_input_.empty()) {
    const ssize_t count = ::write(to.get(), pending_input_.data(), pending_input_.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
      pending_input_.clear();  // nobody reads it any more
      input_.reset();
      return;
    }
    pending_input_.erase(0, static_cast<std::size_t>(count));
  }
  if (!to) pending_input_.clear();
  if (!input_ends_ || !pending_input_.empty()) return;
  if (input_) (void)::shutdown(input_.get(), SHUT_WR);  // a socket is read from as well
  input_.reset();
}

void JobStreams::add_polls(std::vector<pollfd>& polls, bool read_output) const {
  const bool writes = !pending_input_.empty();
  short output_events = read_output ? POLLIN : 0;
  if (terminal_ && writes) output_events = static_cast<short>(output_events | POLLOUT);
  const bool watch_output = output_events != 0;
  polls.push_back({writes && !terminal_ ? input_.get() : -1, POLLOUT, 0});
  polls.push_back({watch_output ? output_.get() : -1, output_events, 0});
  polls.push_back({read_output ? error_.get() : -1, POLLIN, 0});
}

void JobStreams::handle(const pollfd* polls, const Sink& sink) {
  if (polls[0].revents != 0 || (terminal_ && (polls[1].revents & POLLOUT) != 0)) write_input();
  if ((polls[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
    read_once(output_, api::AttachFrame::output, sink);
  if (polls[2].revents != 0) read_once(error_, api::AttachFrame::error, sink);
}

// False at the end of the stream (a terminal's is EIO) and where there is nothing now.
bool JobStreams::read_once(Fd& fd, api::AttachFrame type, const Sink& sink) {
  if (!fd) return false;
  std::array<char, kReadBytes> bytes;
  const ssize_t count = ::read(fd.get(), bytes.data(), bytes.size());
  if (count > 0) {
    sink(type, std::string_view(bytes.data(), static_cast<std::size_t>(count)));
    return true;
  }
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  // Between a terminal's making and its first process it also says EIO; it is closed only with the
  // job's end.
  fd.reset();
  return false;
}

void JobStreams::drain(const Sink& sink) {
  while (read_once(output_, api::AttachFrame::output, sink)) {
  }
  while (read_once(error_, api::AttachFrame::error, sink)) {
  }
}

}  // namespace loam::shim
