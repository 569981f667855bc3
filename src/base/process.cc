#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"

namespace loam {
namespace {

constexpr int kExecLimitMs = 30'000;

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (const std::string& text : strings) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

// In the child: puts the named descriptors in place, closes the rest. Only system calls.
bool place_descriptors(const SpawnOptions& options, int null_fd, int error_fd) {
  std::vector<std::pair<int, int>> moves;
  moves.emplace_back(options.standard_input >= 0 ? options.standard_input : null_fd, 0);
  if (options.standard_output >= 0) moves.emplace_back(options.standard_output, 1);
  if (options.standard_error >= 0) moves.emplace_back(options.standard_error, 2);
  moves.insert(moves.end(), options.descriptors.begin(), options.descriptors.end());
  // First above every target, so that no move overwrites a later source.
  int top = error_fd;
  for (const auto& move : moves) top = std::max(top, std::max(move.first, move.second));
  for (auto& move : moves)
    if ((move.first = ::fcntl(move.first, F_DUPFD_CLOEXEC, top + 1)) < 0) return false;
  for (const auto& [from, to] : moves)
    if (to != error_fd && ::dup2(from, to) < 0) return false;
  return true;
}

void close_others(const SpawnOptions& options, int error_fd) {
  std::vector<int> keep{0, 1, 2, error_fd};
  for (const auto& descriptor : options.descriptors) keep.push_back(descriptor.second);
  std::sort(keep.begin(), keep.end());
  int next = 0;
  for (const int fd : keep) {
    if (fd > next) (void)::syscall(SYS_close_range, next, fd - 1, 0);
    next = std::max(next, fd + 1);
  }
  (void)::syscall(SYS_close_range, next, ~0U, 0);
}

[[noreturn]] void run_child(const SpawnOptions& options, char* const* argv, char* const* environment, int null_fd,
                            int error_fd) {
  const auto give_up = [&] {
    const int number = errno != 0 ? errno : EIO;
    (void)!::write(error_fd, &number, sizeof number);
    ::_exit(127);
  };
  // A daemon ignores it, and exec would hand that on to a program that relies on dying by it.
  ::signal(SIGPIPE, SIG_DFL);
  if (options.own_session) ::setsid();
  if (options.own_group) ::setpgid(0, 0);
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) give_up();
  if (!place_descriptors(options, null_fd, error_fd)) give_up();
  close_others(options, error_fd);
  if (options.before_exec && options.before_exec() != 0) give_up();
  environment != nullptr ? ::execvpe(argv[0], argv, environment) : ::execvp(argv[0], argv);
  give_up();
  ::_exit(127);
}

}  // namespace

Result<Child> spawn(const SpawnOptions& options) {
  LOAM_ASSERT(!options.argv.empty());
  const auto argv = pointers(options.argv);
  const auto environment = pointers(options.environment);
  const Fd null_fd = LOAM_TRY(open_file("/dev/null", O_RDWR));
  Pipe errors = LOAM_TRY(make_pipe());
  // Far above any number a caller names for the child.
  Fd error_fd(::fcntl(errors.write_end.get(), F_DUPFD_CLOEXEC, 200));
  errors.write_end.reset();
  if (!error_fd) return fail_errno("dup");
  // Our memory is the child's until its exec: no page tables to copy, however large we are. What it
  // changes are its own descriptors, ids and signals; a lock that another thread holds gets free.
  // Not where before_exec may change ids: that makes the memory, ours too, undumpable, and with it every
  // /proc/PID of a later child root's (a rootless node could write no id map any more).
  const pid_t pid = options.before_exec ? ::fork() : ::vfork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0)
    run_child(options, argv.data(), options.environment.empty() ? nullptr : environment.data(), null_fd.get(),
              error_fd.get());
  error_fd.reset();
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail_errno("pidfd_open");
  Child child(pid, std::move(pidfd));
  // A child with a user's ids can be stopped by him before its exec.
  pollfd outcome{errors.read_end.get(), POLLIN, 0};
  int ready = 0;
  while ((ready = ::poll(&outcome, 1, kExecLimitMs)) < 0 && errno == EINTR) {
  }
  if (ready == 0)
    return fail(ErrorCode::unavailable, options.argv[0] + ": did not start within " +
                                            std::to_string(kExecLimitMs / 1000) + " s");
  int number = 0;
  const auto got = LOAM_TRY(read_full(errors.read_end.get(), std::as_writable_bytes(std::span(&number, 1))));
  if (got == sizeof number) return fail_errno(options.argv[0], number);
  return child;
}

Result<Output> run_collect(SpawnOptions options) {
  Pipe out = LOAM_TRY(make_pipe());
  Pipe err = LOAM_TRY(make_pipe());
  options.standard_output = out.write_end.get();
  options.standard_error = err.write_end.get();
  Child child = LOAM_TRY(spawn(options));
  out.write_end.reset();
  err.write_end.reset();
  Output output;
  pollfd polls[2] = {{out.read_end.get(), POLLIN, 0}, {err.read_end.get(), POLLIN, 0}};
  std::string* streams[2] = {&output.standard_output, &output.standard_error};
  std::vector<char> buffer(1 << 16);
  while (polls[0].fd >= 0 || polls[1].fd >= 0) {
    if (::poll(polls, 2, -1) < 0 && errno != EINTR) return fail_errno("poll");
    for (int i = 0; i < 2; ++i) {
      if (polls[i].fd < 0 || polls[i].revents == 0) continue;
      const ssize_t count = ::read(polls[i].fd, buffer.data(), buffer.size());
      if (count == 0 || (count < 0 && errno != EINTR)) polls[i].fd = -1;
      if (count > 0 && streams[i]->size() < kSmallFileBytesMax)
        streams[i]->append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
  output.status = LOAM_TRY(child.wait());
  return output;
}

void set_default_signal(int number) {
  struct {
    void* handler = nullptr;
    unsigned long flags = 0;
    void* restorer = nullptr;
    unsigned long mask = 0;
  } action;  // the kernel's own layout (rt_sigaction(2)), SIG_DFL
  (void)::syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof action.mask);
}

std::string describe_status(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int number = WTERMSIG(wait_status);
    return "killed by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")";
  }
  return "exit status " + std::to_string(WEXITSTATUS(wait_status));
}

}  // namespace loam
