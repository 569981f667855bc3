#include "cli/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

namespace loam::cli {

Signals::Signals() {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) {
    struct sigaction action {};
    ::sigaction(number, nullptr, &action);
    // Linux keeps a blocked signal pending even where it is ignored.
    if (action.sa_handler != SIG_IGN) ::sigaddset(&wanted, number);
  }
  ::sigprocmask(SIG_BLOCK, &wanted, &before_);
  fd_ = Fd(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
}

Signals::~Signals() {
  fd_.reset();
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

int Signals::next() {
  signalfd_siginfo info{};
  const ssize_t count = ::read(fd_.get(), &info, sizeof info);
  return count == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
}

}  // namespace loam::cli
