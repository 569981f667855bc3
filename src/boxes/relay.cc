#include "boxes/relay.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "boxes/bridge.h"
#include "boxes/hello.h"
#include "boxes/message.h"
#include "boxes/mux.h"
#include "boxes/pump.h"
#include "boxes/unavailable.h"

namespace loam::boxes {
namespace {

constexpr std::size_t kErrorBytesMax = 4096;      // the last that ssh said
constexpr std::int64_t kPauseNs = 2'000'000'000;  // between tries to reach a box again
constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr int kExitNoCommand = 127;  // of the box's shell
constexpr int kExitSsh = 255;        // ssh itself failed (ssh(1), EXIT STATUS)

// One ssh session, from its start until its end.
struct Session {
  Child ssh;
  Fd stream;  // its standard input and output
  Fd errors;
  bool show_errors = false;
  std::string said;
  HelloReader hello;
  bool greeted = false;
  Mux mux;
};

Result<Session> start(const std::vector<std::string>& command, bool show_errors) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno("socketpair");
  Session session;
  session.stream = Fd(pair[0]);
  const Fd far(pair[1]);
  Pipe errors = LOAM_TRY(make_pipe());
  SpawnOptions options;
  options.argv = command;
  options.standard_input = options.standard_output = far.get();
  options.standard_error = errors.write_end.get();
  // A Ctrl-C is the verb's to understand; a question of ssh's on the terminal still hears it (it
  // catches signals by itself while it asks).
  options.before_exec = [] {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int number : {SIGINT, SIGQUIT, SIGHUP}) ::signal(number, SIG_IGN);
    ::signal(SIGPIPE, SIG_DFL);
    return 0;
  };
  session.ssh = LOAM_TRY(spawn(options));
  session.errors = std::move(errors.read_end);
  session.show_errors = show_errors;
  LOAM_CHECK(set_nonblocking(session.stream.get()));
  LOAM_CHECK(set_nonblocking(session.errors.get()));
  return session;
}

// The last line that says something; ssh's "Permission denied (publickey)." and the like.
std::string last_line(const std::string& text) {
  const auto lines = split(trim(text), '\n');
  return lines.empty() ? "" : printable(trim(lines.back()));
}

// Why a session ended before the bridge had greeted.
std::string why_none(Session& session) {
  const auto status = session.ssh.wait();
  const std::string said = session.show_errors ? "" : last_line(session.said);
  const int code = status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  if (code == kExitSsh) return said.empty() ? "ssh could not reach it" : said;
  if (code == kExitNoCommand)
    return "there is no loam on it that a command over ssh finds" +
           (said.empty() ? "" : " (" + said + ")") +
           "; install it there (docs/installation.md), or name its path as `program:` in "
           "boxes.yaml";
  if (code == 2 && session.said.find(kBridgeWord) != std::string::npos)
    return "its loam is older than other boxes are known to this one; install the same version of "
           "Loam on both";
  return "its loam ended before it answered: " + (status ? describe_status(*status) : "unknown") +
         (said.empty() ? "" : ", " + said);
}

class Relay {
 public:
  explicit Relay(RelayOptions options) : options_(std::move(options)) {}

  void run() {
    begin(options_.command, options_.show_errors);
    while (!ended_) turn();
    // An ssh that has a session is not killed, for it may carry others of the user (ControlMaster):
    // it ends with its stream. One that still asks for a password would ask on.
    if (session_ && session_->greeted) session_->ssh.release();
  }

 private:
  void turn() {
    std::vector<pollfd> polls{{options_.lifeline.get(), POLLIN, 0},
                              {options_.node_listener.get(), POLLIN, 0},
                              {options_.files_listener.get(), POLLIN, 0}};
    const std::size_t fixed = polls.size();
    if (session_) {
      Mux& mux = session_->mux;
      const auto events =
          static_cast<short>((mux.out().size() < kOutBytesMax ? POLLIN : 0) |
                             (session_->greeted && !mux.out().empty() ? POLLOUT : 0));
      polls.push_back({session_->stream.get(), events, 0});
      polls.push_back({session_->errors.get(), POLLIN, 0});
      mux.add_polls(polls);
    }
    if (::poll(polls.data(), polls.size(), timeout_ms()) < 0) return;
    if (polls[0].revents != 0) {
      ended_ = true;
      return;
    }
    if (session_) {
      session_->mux.handle(polls.data() + fixed + 2);
      if (polls[fixed + 1].revents != 0) read_errors();
      if (polls[fixed].revents != 0) read_stream();
    }
    if (session_ && session_->greeted) {
      if (auto sent = pump_out(session_->stream.get(), session_->mux.out()); !sent)
        lose(sent.error().text);
    }
    if (polls[1].revents != 0) accept_from(options_.node_listener, kNodeService);
    if (polls[2].revents != 0) accept_from(options_.files_listener, kFilesService);
    if (!session_ && !waiting_.empty() && steady_ns() >= next_try_ns_)
      begin(options_.reconnect, false);
  }

  int timeout_ms() const {
    if (session_ || waiting_.empty()) return -1;
    return static_cast<int>(std::max<std::int64_t>(0, next_try_ns_ - steady_ns()) / kNsPerMs) + 1;
  }

  void begin(const std::vector<std::string>& command, bool show_errors) {
    auto started = start(command, show_errors);
    if (!started) return refuse(started.error().text + " (openssh-client is needed)");
    session_ = std::move(*started);
  }

  void accept_from(const Fd& listener, std::string_view service) {
    Fd local(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!local) return;
    if (session_ && session_->greeted)
      session_->mux.open(std::move(local), service);
    else
      waiting_.emplace_back(std::move(local), service);
  }

  void read_errors() {
    const auto open =
        pump_in(session_->errors.get(), [this](std::string_view bytes) -> Result<void> {
          if (session_->show_errors) (void)write_full(STDERR_FILENO, bytes);
          session_->said += bytes;
          if (session_->said.size() > kErrorBytesMax)
            session_->said.erase(0, session_->said.size() - kErrorBytesMax);
          return {};
        });
    if (!open || !*open) session_->errors.reset();
  }

  void read_stream() {
    const auto open =
        pump_in(session_->stream.get(), [this](std::string_view bytes) -> Result<void> {
          if (session_->greeted) return session_->mux.receive(bytes);
          auto hello = LOAM_TRY(session_->hello.add(bytes));
          return hello ? greet(*hello) : Result<void>();
        });
    if (!open) return lose(open.error().text);
    if (*open) return;
    while (session_->errors) read_errors_to_end();
    lose(session_->greeted ? "the ssh session ended" : why_none(*session_));
  }

  // Once more than what is there already: ssh has closed its output and is about to end.
  void read_errors_to_end() {
    pollfd poll_fd{session_->errors.get(), POLLIN, 0};
    if (::poll(&poll_fd, 1, 1'000) == 1) return read_errors();
    session_->errors.reset();
  }

  Result<void> greet(const Json& hello) {
    LOAM_CHECK(check_version(hello, LOAM_VERSION));
    session_->greeted = true;
    session_->show_errors = false;
    if (options_.report) {
      (void)write_message(options_.report.get(), hello);
      options_.report.reset();
    }
    for (auto& [local, service] : waiting_) session_->mux.open(std::move(local), service);
    waiting_.clear();
    return session_->mux.receive(std::exchange(session_->hello.rest, {}));
  }

  void lose(const std::string& why) {
    const bool was_greeted = session_->greeted;
    session_->ssh.release();  // its stream is closed: it ends
    session_.reset();
    if (was_greeted)
      next_try_ns_ = 0;  // who still follows connects again, and is waited for
    else
      refuse(why);
  }

  void refuse(const std::string& why) {
    if (options_.report) {
      (void)write_message(options_.report.get(), error_message({ErrorCode::unavailable, why}));
      ended_ = true;
      return;
    }
    for (auto& [local, service] : waiting_)
      if (service == kNodeService) (void)write_full(local.get(), unavailable_answer(why));
    waiting_.clear();
    next_try_ns_ = steady_ns() + kPauseNs;
  }

  RelayOptions options_;
  std::optional<Session> session_;
  std::deque<std::pair<Fd, std::string_view>> waiting_;  // connected while there is no session
  std::int64_t next_try_ns_ = 0;
  bool ended_ = false;
};

}  // namespace

void run_relay(RelayOptions options) {
  ::signal(SIGPIPE, SIG_IGN);
  // The program that it serves decides what they mean; it ends with that.
  for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGTERM}) ::signal(number, SIG_IGN);
  Relay(std::move(options)).run();
}

}  // namespace loam::boxes
