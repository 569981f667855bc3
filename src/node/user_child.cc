#include "node/user_child.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.h"
#include "base/json.h"
#include "base/process.h"

namespace loam::node {
namespace {

constexpr std::size_t kOutputBytesMax = 256u << 20;
constexpr int kIdleSecondsMax = 30;
constexpr std::size_t kErrorBytesMax = 64u << 10;
constexpr ErrorCode kCodes[] = {ErrorCode::invalid, ErrorCode::not_found,   ErrorCode::exists,
                                ErrorCode::denied,  ErrorCode::unavailable, ErrorCode::busy,
                                ErrorCode::full,    ErrorCode::too_large,   ErrorCode::cancelled,
                                ErrorCode::corrupt, ErrorCode::io};

// System calls only: runs between fork and exec of a process with threads. PDEATHSIG last: a change
// of ids clears it.
int become(const UserIds& user) {
  if (::geteuid() != user.uid || ::getegid() != user.gid) {
    static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
    if (::syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0) return 1;
    if (::syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0) return 1;
    if (::syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0) return 1;
  }
  return ::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ? 1 : 0;
}

Result<Fd> memory_file(std::string_view content) {
  Fd fd(::memfd_create("loam", MFD_CLOEXEC));
  if (!fd) return fail_errno("memfd_create");
  LOAM_CHECK(write_full(fd.get(), content));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return fail_errno("lseek");
  return fd;
}

// A socket rather than a pipe for its time-out: the child has its user's id, who may stop it
// (SIGSTOP) or let it wait on a filesystem of his own, and must not hold a worker of the node for
// ever. EAGAIN then (busy).
Result<Pipe> output_stream() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_errno("socketpair");
  Pipe stream{Fd(ends[0]), Fd(ends[1])};
  const timeval limit{.tv_sec = kIdleSecondsMax, .tv_usec = 0};
  if (::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
    return fail_errno("SO_RCVTIMEO");
  return stream;
}

Error error_of_child(const Fd& standard_error, int status, const std::string& name) {
  (void)::lseek(standard_error.get(), 0, SEEK_SET);
  const auto text = read_fd(standard_error.get(), kErrorBytesMax);
  const auto document = Json::parse(text ? *text : "");
  if (!document || !(*document)["text"].is_string())
    return {ErrorCode::io,
            name + ": " + describe_status(status) + (text && !text->empty() ? ": " + *text : "")};
  for (const ErrorCode code : kCodes)
    if (error_code_name(code) == (*document)["code"].as_string())
      return {code, (*document)["text"].as_string()};
  return {ErrorCode::io, (*document)["text"].as_string()};
}

}  // namespace

Result<void> stream_from_user(const UserIds& user, const std::vector<std::string>& arguments,
                              std::string_view input,
                              const std::function<Result<void>(int output_fd)>& consume) {
  const Fd standard_input = LOAM_TRY(memory_file(input));
  const Fd standard_error = LOAM_TRY(memory_file({}));
  Pipe output = LOAM_TRY(output_stream());
  SpawnOptions options;
  options.argv = {"/proc/self/exe"};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         "LANG=C.UTF-8"};
  options.directory = "/";
  options.standard_input = standard_input.get();
  options.standard_output = output.write_end.get();
  options.standard_error = standard_error.get();
  options.own_group = true;
  options.before_exec = [&user] { return become(user); };
  Child child = LOAM_TRY(spawn(options));
  output.write_end.reset();
  auto consumed = consume(output.read_end.get());
  output.read_end.reset();  // a child that still writes gets SIGPIPE
  if (!consumed && consumed.error().code == ErrorCode::busy) {
    (void)child.signal(SIGKILL);
    consumed = fail(ErrorCode::unavailable,
                    "reading the folder with its user's rights made no progress for " +
                        std::to_string(kIdleSecondsMax) + " s");
    (void)child.wait();
    return consumed;
  }
  const int status = LOAM_TRY(child.wait());
  // Killed by SIGPIPE because we stopped reading: our own finding is the reason.
  const bool we_stopped = WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE && !consumed;
  if (status != 0 && !we_stopped)
    return tl::unexpected(error_of_child(standard_error, status, arguments.at(0)));
  return consumed;
}

Result<std::string> call_as_user(const UserIds& user, const std::vector<std::string>& arguments,
                                 std::string_view input) {
  std::string content;
  LOAM_CHECK(stream_from_user(user, arguments, input, [&](int fd) -> Result<void> {
    content = LOAM_TRY(read_fd(fd, kOutputBytesMax));
    return {};
  }));
  return content;
}

}  // namespace loam::node
