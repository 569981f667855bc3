#include "sandbox/lane.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/json.h"
#include "base/packet.h"
#include "sandbox/join.h"
#include "sandbox/user_process.h"

namespace loam::sandbox {
namespace {

constexpr std::int64_t kNsPerMicrosecond = 1'000;
constexpr std::int32_t kNotStarted = 126 << 8;  // as a command that could not be executed

std::int64_t cpu_ns_of(const rusage& usage) {
  const auto microseconds = [](const timeval& time) {
    return std::int64_t{time.tv_sec} * 1'000'000 + std::int64_t{time.tv_usec};
  };
  return (microseconds(usage.ru_utime) + microseconds(usage.ru_stime)) * kNsPerMicrosecond;
}

}  // namespace

Result<Fd> send_task(int control, const Ids& ids, const Variables& variables) {
  Pipe output = LOAM_TRY(make_user_pipe(ids));
  Json environment = Json::object();
  for (const auto& [name, value] : variables) environment.set(name, value);
  const ControlPacket packet{.kind = Control::task};
  std::string bytes(reinterpret_cast<const char*>(&packet), sizeof packet);
  bytes += environment.dump();
  if (bytes.size() > kControlBytesMax)
    return fail(ErrorCode::too_large, "the task's variables are too large");
  const int theirs = output.write_end.get();
  if (send_packet(control, bytes, std::span(&theirs, 1), MSG_DONTWAIT) < 0)
    return fail_errno("ask the sandbox for a task");
  return std::move(output.read_end);
}

void LaneTask::start(std::string_view bytes, const std::vector<Fd>& descriptors) {
  const auto variables = Json::parse(bytes);
  if (pid_ != 0 || !variables || descriptors.size() != 1) return;
  pid_ = ::fork();
  if (pid_ == 0) {
    UserProcess process{.spec = parts_.spec,
                        .argv = parts_.spec.argv,
                        .environment = {},
                        .output = descriptors[0].get(),
                        .secrets = parts_.secrets};
    for (const auto& [name, value] : variables->as_object())
      process.environment.emplace_back(name, value.as_string());
    run_user_process(process);
  }
  if (pid_ > 0) return;
  pid_ = 0;
  status_ = kNotStarted;
  tell('d');
  clear();
}

void LaneTask::reap() {
  int status = 0;
  rusage usage{};
  pid_t ended = 0;
  while ((ended = ::wait4(-1, &status, WNOHANG, &usage)) > 0) {
    if (WIFSTOPPED(status)) {
      let_go_on(ended, status);
      continue;
    }
    largest_bytes_ = std::max(largest_bytes_, std::int64_t{usage.ru_maxrss} * 1024);
    cpu_ns_ += cpu_ns_of(usage);
    if (ended != pid_ || over_) continue;
    over_ = true;
    status_ = status;
    // At once: the kernel lets no fork succeed in a process that this reaches, so none is missed.
    ::kill(-1, SIGKILL);
  }
  if (!over_) return;
  if (ended < 0 && errno == ECHILD) {
    tell('d');
    clear();
  } else if (!std::exchange(waited_, true)) {
    tell('w');
  }
}

void LaneTask::tell(char kind) const {
  const InitPacket packet{
      .kind = kind, .status = status_, .largest_bytes = largest_bytes_, .cpu_ns = cpu_ns_};
  (void)::send(parts_.control, &packet, sizeof packet, MSG_NOSIGNAL);
}

void LaneTask::clear() {
  pid_ = 0;
  over_ = waited_ = false;
  status_ = 0;
  largest_bytes_ = cpu_ns_ = 0;
}

}  // namespace loam::sandbox
