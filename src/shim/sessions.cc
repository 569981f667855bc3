#include "shim/sessions.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "api/attempt.h"

namespace loam::shim {
namespace {

constexpr std::size_t kShellsMax = 32;
constexpr std::size_t kConnectionsMax = 128;  // a browser opens a dozen
constexpr std::size_t kStreamPolls = 3;  // of JobStreams

Json record_of(const std::string& attempt, api::Outcome outcome, int number,
               const std::string& error = {}) {
  api::ExitRecord record;
  record.attempt = attempt;
  record.outcome = outcome;
  (outcome == api::Outcome::signaled ? record.signal : record.code) = number;
  record.error = error;
  return api::to_json(record);
}

}  // namespace

void Sessions::add(const Json& packet, Fd stream) {
  if (!stream) return;
  Session& session = sessions_.emplace_back();
  session.id = ++last_;
  session.clients.add(std::move(stream), std::nullopt);
  session.join.session = session.id;
  session.join.argv = packet["argv"].as_strings();
  session.join.terminal = packet["terminal"].as_bool();
  for (const auto& [name, value] : packet["environment"].as_object())
    session.join.environment.emplace_back(name, value.as_string());
  session.port = static_cast<std::uint16_t>(packet["port"].as_int());
  if (session.join.terminal) session.streams.await_terminal();
  const bool connects = session.port != 0;
  const auto alike = std::count_if(sessions_.begin(), sessions_.end(), [&](const Session& other) {
    return (other.port != 0) == connects;
  });
  const std::size_t most = connects ? kConnectionsMax : kShellsMax;
  if (static_cast<std::size_t>(alike) > most)
    refuse(session, "already " + std::to_string(most) +
                        (connects ? " connections to" : " shells in") + " this job; mend: end one");
}

void Sessions::start(int control) {
  for (Session& session : sessions_) {
    if (session.started || session.finished) continue;
    session.started = true;
    session.port == 0 ? start_process(session, control) : start_connection(session, control);
  }
}

void Sessions::start_connection(Session& session, int control) {
  const auto asked = sandbox::send_connect(control, session.id, session.where, session.port);
  if (!asked) refuse(session, asked.error().text);
}

void Sessions::start_process(Session& session, int control) {
  auto streams = sandbox::send_join(control, ids_, session.join);
  if (!streams) return refuse(session, streams.error().text);
  if (session.join.terminal) return;
  sandbox::Sandbox pipes;
  pipes.input = std::move(streams->input);
  pipes.output = std::move(streams->output);
  pipes.error = std::move(streams->error);
  session.streams.take_pipes(pipes);
}

void Sessions::take_terminal(std::uint32_t id, Fd master) {
  for (Session& session : sessions_)
    if (session.id == id && !session.finished) session.streams.take_terminal(std::move(master));
}

void Sessions::take_connection(std::uint32_t id, Fd socket, int error) {
  for (Session& session : sessions_) {
    if (session.id != id || session.finished) continue;
    if (!socket) refuse(session, std::strerror(error));
    session.connecting = std::move(socket);
  }
}

// Or not: where nobody listens on 127.0.0.1, ::1 is tried.
void Sessions::connected(Session& session, int control) {
  const Fd socket = std::move(session.connecting);
  int error = 0;
  socklen_t size = sizeof error;
  (void)::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error == ECONNREFUSED && session.where == sandbox::Loopback::ipv4) {
    session.where = sandbox::Loopback::ipv6;
    return start_connection(session, control);
  }
  if (error != 0)
    return refuse(session, "port " + std::to_string(session.port) + " of the job: " + std::strerror(error));
  sandbox::Sandbox streams;
  streams.input = Fd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  streams.output = Fd(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  session.streams.take_pipes(streams);
}

void Sessions::refuse(Session& session, const std::string& why) {
  finish(session, record_of(attempt_, api::Outcome::failed_to_start, 0, why));
}

// What it said last is still in its pipes; what it left behind may hold them open.
void Sessions::on_end(std::uint32_t id, int status) {
  for (Session& session : sessions_) {
    if (session.id != id || session.finished) continue;
    session.streams.drain([&](api::AttachFrame type, std::string_view bytes) {
      session.clients.send_live(type, bytes);
    });
    finish(session, WIFSIGNALED(status)
                        ? record_of(attempt_, api::Outcome::signaled, WTERMSIG(status))
                        : record_of(attempt_, api::Outcome::exited, WEXITSTATUS(status)));
  }
  remove_gone();
}

void Sessions::finish_all(const std::string& why) {
  for (Session& session : sessions_) {
    if (session.finished) continue;
    session.streams.drain([&](api::AttachFrame type, std::string_view bytes) {
      session.clients.send_live(type, bytes);
    });
    finish(session, record_of(attempt_, api::Outcome::signaled, SIGKILL, why));
  }
  remove_gone();
}

void Sessions::finish(Session& session, Json record) {
  session.finished = true;
  session.clients.finish(record.dump());
}

void Sessions::add_polls(std::vector<pollfd>& polls) const {
  for (const Session& session : sessions_) {
    session.clients.add_polls(polls, session.streams.takes_input());
    if (session.connecting)
      polls.insert(polls.end(), {{session.connecting.get(), POLLOUT, 0}, {-1, 0, 0}, {-1, 0, 0}});
    else
      session.streams.add_polls(polls, !session.finished && !session.clients.holds_back());
  }
}

std::size_t Sessions::poll_count() const {
  std::size_t count = 0;
  for (const Session& session : sessions_) count += session.clients.poll_count() + kStreamPolls;
  return count;
}

void Sessions::handle(const pollfd* polls, int control) {
  for (Session& session : sessions_) {
    const pollfd* const clients_at = polls;
    const std::size_t client_count = session.clients.poll_count();
    polls += client_count;
    if (session.connecting) {
      if (polls[0].revents != 0) connected(session, control);
    } else {
      session.streams.handle(polls, [&](api::AttachFrame type, std::string_view bytes) {
        session.clients.send_live(type, bytes);
      });
    }
    polls += kStreamPolls;
    if (session.port != 0 && !session.finished && session.streams.output_ended())
      finish(session, record_of(attempt_, api::Outcome::exited, 0));
    // send_live may have dropped the client.
    if (session.clients.poll_count() == client_count)
      session.clients.handle(clients_at,
                             [&](const api::Frame& frame) { on_frame(session, frame, control); });
    if (session.clients.take_hang_up() && !session.finished) {
      // As a terminal's end: who does not heed SIGHUP stays, as a process of the job.
      session.streams.hang_up([](api::AttachFrame, std::string_view) {});
      if (session.started && session.port == 0) signal(session, SIGHUP, control);
      session.finished = true;
    }
  }
  remove_gone();
}

void Sessions::signal(const Session& session, int number, int control) {
  if (control < 0 || number <= 0 || number >= NSIG) return;
  const sandbox::ControlPacket packet{.kind = sandbox::Control::session_signal,
                                      .number = static_cast<std::uint8_t>(number),
                                      .session = session.id};
  (void)::send(control, &packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Sessions::on_frame(Session& session, const api::Frame& frame, int control) {
  const auto byte_at = [&](std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(frame.payload[i]));
  };
  if (frame.type == api::AttachFrame::input) session.streams.add_input(frame.payload);
  if (frame.type == api::AttachFrame::resize && frame.payload.size() == 4)
    session.streams.resize(byte_at(0) | byte_at(1) << 8, byte_at(2) | byte_at(3) << 8);
  if (frame.type == api::AttachFrame::signal && frame.payload.size() == 1)
    signal(session, static_cast<int>(byte_at(0)), control);
}

void Sessions::remove_gone() {
  std::erase_if(sessions_, [](const Session& session) { return !session.clients.any(); });
}

}  // namespace loam::shim
