#include "node/user_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "base/files.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "node/paths.h"

namespace loam::node {
namespace {

constexpr std::size_t kOutputBytesMax = 256u << 20;
constexpr int kIdleSecondsMax = 30;
constexpr std::size_t kErrorBytesMax = 64u << 10;
constexpr ErrorCode kCodes[] = {ErrorCode::invalid, ErrorCode::not_found,   ErrorCode::exists,
                                ErrorCode::denied,  ErrorCode::unavailable, ErrorCode::busy,
                                ErrorCode::full,    ErrorCode::too_large,   ErrorCode::cancelled,
                                ErrorCode::corrupt, ErrorCode::io};

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

// Its output has ended, but its user can keep it from ending: stopped, or under a debugger.
Result<int> wait_for_end(Child& child) {
  pollfd ended{child.pidfd(), POLLIN, 0};
  int ready = 0;
  while ((ready = ::poll(&ended, 1, kIdleSecondsMax * 1000)) < 0 && errno == EINTR) {
  }
  if (ready == 0) (void)child.signal(SIGKILL);
  return child.wait();
}

// Programs that a helper starts (tar) are the system's, whatever the node's own PATH says.
std::vector<std::string> environment() {
  std::vector<std::string> variables = environment_of_helpers();
  std::erase_if(variables, [](const std::string& variable) { return variable.starts_with("PATH="); });
  variables.push_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  variables.push_back("LANG=C.UTF-8");
  return variables;
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

void CallStop::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (child_) (void)::syscall(SYS_pidfd_send_signal, child_.get(), SIGKILL, nullptr, 0);
}

bool CallStop::stopped() const {
  const std::lock_guard lock(mutex_);
  return stopped_;
}

void CallStop::watch(const Child& child) {
  const std::lock_guard lock(mutex_);
  child_ = Fd(::fcntl(child.pidfd(), F_DUPFD_CLOEXEC, 0));
  if (stopped_) (void)child.signal(SIGKILL);
}

UserHelpers::UserHelpers() : server_({"/proc/self/exe", "__serve"}, environment()) {}

Result<void> UserHelpers::stream(const UserIds& user, const std::vector<std::string>& arguments,
                                 std::string_view input,
                                 const std::function<Result<void>(int output_fd)>& consume,
                                 CallStop* stop) {
  const Fd standard_input = LOAM_TRY(memory_file(input));
  const Fd standard_error = LOAM_TRY(memory_file({}));
  Pipe output = LOAM_TRY(output_stream());
  std::vector<std::string> all = arguments;
  all.push_back(ids_text(user));
  Child child =
      LOAM_TRY(server_.fork(all, {standard_input.get(), output.write_end.get(), standard_error.get()}));
  output.write_end.reset();
  if (stop != nullptr) stop->watch(child);
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
  const int status = LOAM_TRY(wait_for_end(child));
  if (stop != nullptr && stop->stopped()) return fail(ErrorCode::cancelled, "stopped: its client has gone");
  // Killed by SIGPIPE because we stopped reading: our own finding is the reason.
  const bool we_stopped = WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE && !consumed;
  if (status != 0 && !we_stopped)
    return tl::unexpected(error_of_child(standard_error, status, arguments.at(0)));
  return consumed;
}

Result<std::string> UserHelpers::call(const UserIds& user, const std::vector<std::string>& arguments,
                                      std::string_view input) {
  std::string content;
  LOAM_CHECK(stream(user, arguments, input, [&](int fd) -> Result<void> {
    content = LOAM_TRY(read_fd(fd, kOutputBytesMax));
    return {};
  }));
  return content;
}

std::string ids_text(const UserIds& user) {
  std::vector<std::string> groups;
  for (const std::uint32_t group : user.groups) groups.push_back(std::to_string(group));
  return std::to_string(user.uid) + ":" + std::to_string(user.gid) + ":" + join(groups, ",");
}

Result<UserIds> ids_from(std::string_view text) {
  const auto number = [](const std::string& digits, std::uint32_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  const auto parts = split(text, ':');
  UserIds user;
  bool good = parts.size() == 3 && number(parts[0], user.uid) && number(parts[1], user.gid);
  if (good && !parts[2].empty())
    for (const std::string& group : split(parts[2], ','))
      good = number(group, user.groups.emplace_back()) && good;
  if (!good) return fail(ErrorCode::invalid, "ids: expected UID:GID:GROUPS");
  return user;
}

}  // namespace loam::node
