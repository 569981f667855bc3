#include "sandbox/user_process.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "base/files.h"
#include "base/json.h"
#include "sandbox/cpuset.h"
#include "sandbox/signals.h"

namespace loam::sandbox {
namespace {

constexpr std::size_t kSecretsBytesMax = 1u << 20;
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// From the beginning, whatever another rank has read of it.
Result<std::string> read_secrets(int fd) {
  std::string text(kSecretsBytesMax, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t count =
        ::pread(fd, text.data() + size, text.size() - size, static_cast<off_t>(size));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read the secrets");
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  text.resize(size);
  return text;
}

Result<void> add_secrets(int fd, std::vector<std::string>& variables) {
  if (fd < 0) return {};
  const std::string text = LOAM_TRY(read_secrets(fd));
  const Json secrets = LOAM_TRY(Json::parse(text));
  for (const auto& [name, value] : secrets.as_object())
    variables.push_back(name + "=" + value.as_string());
  return {};
}

Result<void> place_streams(const UserProcess& process) {
  int input = process.input;
  int output = process.output;
  int error = process.error >= 0 ? process.error : output;
  Fd null_fd;
  if (process.terminal >= 0) {
    input = output = error = process.terminal;
  } else if (input < 0) {
    null_fd = LOAM_TRY(open_file("/dev/null", O_RDONLY));
    input = null_fd.get();
  }
  // First above 2, so that no move overwrites a later source.
  const Fd high_input(::fcntl(input, F_DUPFD_CLOEXEC, 10)),
      high_output(::fcntl(output, F_DUPFD_CLOEXEC, 10)),
      high_error(::fcntl(error, F_DUPFD_CLOEXEC, 10));
  null_fd.reset();  // of a parent without standard streams its number is one of these
  if (::dup2(high_input.get(), 0) < 0 || ::dup2(high_output.get(), 1) < 0 ||
      ::dup2(high_error.get(), 2) < 0)
    return fail_errno("place the standard streams");
  return {};
}

std::string why_not(const std::string& program, const std::string& path, int number) {
  if (number == ENOENT && program.find('/') == std::string::npos)
    return program + ": no such program in the environment (PATH is " + path + ")";
  if (number == ENOENT)
    return program +
           ": no such file in the environment, or its interpreter (the first line after #!) is not "
           "there";
  if (number == EACCES)
    return program + ": not executable (mend: chmod +x, or start it by its interpreter)";
  if (number == ENOEXEC)
    return program + ": not a program for this machine, and no script with a #! line";
  if (number == E2BIG) return program + ": arguments and environment are too large";
  return program + ": " + ::strerror(number);
}

// A device that is bound keeps the host's rights, which the user may not have.
Result<void> check_devices(const std::vector<DeviceNode>& devices) {
  for (const DeviceNode& device : devices)
    if (::access(device.path.c_str(), R_OK) != 0 && ::access(device.path.c_str(), W_OK) != 0)
      return fail(ErrorCode::denied,
                  device.path + ": the job's user may not open it (" + ::strerror(errno) +
                      "); mend: give the user the right on the host, or run a system node, which "
                      "gives an assigned device by itself");
  return {};
}

// NAME=VALUE of each; what this process has of its own instead of the job's. execvpe and getenv
// take the first of a name.
std::vector<std::string> variables_of(const UserProcess& process) {
  std::vector<std::string> variables;
  std::set<std::string> own;
  for (const auto& [name, value] : process.environment) {
    variables.push_back(name + "=" + value);
    own.insert(name);
  }
  for (const auto& [name, value] : process.spec.environment)
    if (!own.contains(name)) variables.push_back(name + "=" + value);
  return variables;
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Result<void> execute(const UserProcess& process) {
  const Spec& spec = process.spec;
  reset_signals();
  ::setsid();
  if (process.terminal >= 0 && ::ioctl(process.terminal, TIOCSCTTY, 0) != 0)
    return fail_errno("take the terminal");
  LOAM_CHECK(place_streams(process));
  LOAM_CHECK(check_devices(spec.devices));
  if (!process.cpus.empty()) LOAM_CHECK(bind_this_thread({.cpus = process.cpus}));
  std::vector<std::string> variables = variables_of(process);
  std::string path = kDefaultPath;
  for (const auto* variables_given : {&spec.environment, &process.environment})
    for (const auto& [name, value] : *variables_given)
      if (name == "PATH") path = value;
  LOAM_CHECK(add_secrets(process.secrets, variables));
  if (::chdir(spec.directory.c_str()) != 0)
    return fail_errno("working directory " + spec.directory);
  const std::vector<char*> argv = pointers_to(process.argv), environment = pointers_to(variables);
  // Nothing of the keeper is inherited, whatever it forgot to mark (CVE-2024-21626 was such a one).
  if (process.report >= 0) {
    const int report = ::fcntl(process.report, F_DUPFD_CLOEXEC, 3);
    if (report != 3 && ::dup3(process.report, 3, O_CLOEXEC) < 0) return fail_errno("dup");
    (void)!::write(3, &kStartedMark, 1);
  }
  (void)::syscall(SYS_close_range, process.report >= 0 ? 4 : 3, ~0U, 0);
  ::setenv("PATH", path.c_str(), 1);  // execvpe looks here
  ::execvpe(argv[0], argv.data(), environment.data());
  const int number = errno;
  return fail(number == ENOENT ? ErrorCode::not_found : ErrorCode::denied,
              why_not(process.argv[0], path, number));
}

}  // namespace

[[noreturn]] void give_up(int report, const Error& error) {
  (void)!::write(report, error.text.c_str(), error.text.size() + 1);
  ::_exit(127);
}

[[noreturn]] void run_user_process(const UserProcess& process) {
  const auto failed = execute(process);
  // Closed with the others: it then is 3.
  if (process.report >= 0)
    give_up(::fcntl(process.report, F_GETFD) >= 0 ? process.report : 3, failed.error());
  // As a shell says it, on what is standard error by now.
  const std::string line = "loam: " + failed.error().text + "\n";
  (void)!::write(2, line.data(), line.size());
  ::_exit(failed.error().code == ErrorCode::not_found ? 127 : 126);
}

}  // namespace loam::sandbox
