// `loam forward TARGET PORT`: a job's port on this machine's loopback, until the job ends or Ctrl-C.
#include "cli/forward.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/follow.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

constexpr int kReachRetryMs = 1'000;  // a node that is gone

// Whether what is forwarded has ended, from the run's document; a node that is gone says nothing.
class TargetWatch {
 public:
  TargetWatch(const engines::LocalNode& node, std::string target)
      : node_(node), target_(std::move(target)), run_(target_.substr(0, target_.find('/'))) {
    look();
    // Everybody sees the queue; a job's output, and its ports, are its user's.
    const auto may = node_.stream("GET", "/v1/logs/" + engines::percent_encoded_path(target_) + "?tail=0", {},
                                  [](std::string_view) { return true; });
    if (!may && !error_ && may.error().code != ErrorCode::unavailable) error_ = may.error();
  }
  bool ended() const { return ended_; }
  const std::optional<Error>& error() const { return error_; }
  int fd() const { return events_ ? events_->fd() : -1; }
  int timeout_ms() const { return events_ ? -1 : kReachRetryMs; }

  // Something has happened to the run, or its stream of events is to be opened (again).
  void look() {
    std::string ignored;
    if (events_) {
      const auto complete = events_->read(ignored);
      if (!complete || *complete) events_.reset();
    }
    if (!events_) {
      auto opened = node_.open("GET", "/v1/runs/" + engines::percent_encoded(run_) + "/events");
      if (opened) events_ = std::move(*opened);
    }
    const auto run = node_.call("GET", "/v1/runs/" + engines::percent_encoded(run_));
    if (!run && run.error().code != ErrorCode::unavailable) error_ = run.error();
    if (run) ended_ = all_ended(*run);
  }

 private:
  bool all_ended(const Json& run) const {
    for (const Json& job : run["jobs"].as_array()) {
      const std::string& name = job["target"].as_string();
      const bool meant = target_ == run_ || name == target_ || target_.starts_with(name + "/");
      if (meant && !job_has_ended(job["state"].as_string())) return false;
    }
    return true;
  }

  const engines::LocalNode& node_;
  const std::string target_, run_;
  std::optional<engines::Exchange> events_;
  std::optional<Error> error_;
  bool ended_ = false;
};

Result<void> listen_all(Console& console, PortForward& forward, const Forwarding& forwarding) {
  for (const PortPair& ports : forwarding.ports) {
    const std::uint16_t local = LOAM_TRY(forward.listen(ports));
    const std::string line = "127.0.0.1:" + std::to_string(local) + " is port " +
                             std::to_string(ports.job) + " of " + forwarding.target;
    forwarding.beside_command ? console.warn(line) : console.print(line);
  }
  return {};
}

int forward_ports(Context& context) {
  Forwarding forwarding{.target = context.arguments.value("TARGET"), .ports = {}};
  for (const std::string& text : context.arguments.list("PORT")) {
    const auto ports = parse_ports(text);
    if (!ports) return report(context, ports.error());
    forwarding.ports.push_back(*ports);
  }
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  Signals signals;
  return forward_until_end(context.console, *node, signals, forwarding);
}

}  // namespace

int forward_until_end(Console& console, const engines::LocalNode& node, Signals& signals,
                      const Forwarding& forwarding) {
  TargetWatch watch(node, forwarding.target);
  if (watch.error() || watch.ended()) {
    console.warn(watch.error() ? watch.error()->text : forwarding.target + " has ended");
    return kExitFailure;
  }
  PortForward forward(console, node, forwarding.target);
  if (auto listening = listen_all(console, forward, forwarding); !listening) {
    console.warn(listening.error().text);
    return kExitFailure;
  }
  std::vector<pollfd> polls;
  while (!watch.ended()) {
    polls = {{signals.fd(), POLLIN, 0}, {watch.fd(), POLLIN, 0}};
    forward.add_polls(polls);
    const int count = ::poll(polls.data(), polls.size(), watch.timeout_ms());
    if (count < 0) continue;
    if (polls[0].revents != 0)
      for (int number = signals.next(); number != 0; number = signals.next())
        if (number != SIGWINCH) return number == SIGINT ? kExitOk : kExitSignal + number;
    if (count == 0 || polls[1].revents != 0) watch.look();
    forward.handle(polls.data() + 2);
  }
  if (!forwarding.beside_command) console.warn(forwarding.target + " has ended");
  return kExitOk;
}

Result<Child> forward_beside(Console& console, const engines::LocalNode& node,
                             const Forwarding& forwarding) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) {
    (void)::setpgid(0, 0);  // a terminal's Ctrl-C is the command's
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != parent) ::_exit(kExitFailure);
    Signals signals;
    ::_exit(forward_until_end(console, node, signals, forwarding));
  }
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail_errno("pidfd_open");
  return Child(pid, std::move(pidfd));
}

Verb forward_verb() {
  Verb verb;
  verb.name = "forward";
  verb.summary = "a job's port on this machine's loopback";
  verb.positionals = {{"TARGET", "RUN[/STEP[/ATTEMPT]]"},
                      {"PORT", "PORT of the job, or LOCAL:PORT", true, true}};
  verb.examples =
      "loam forward 17 6006                  127.0.0.1:6006 is port 6006 of the job\n"
      "loam forward 17/train 8080:6006 9090\n"
      "loam run --network none --port 8888 -- jupyter lab    forwards while it runs";
  verb.run = forward_ports;
  return verb;
}

}  // namespace loam::cli
