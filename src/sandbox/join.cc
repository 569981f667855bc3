#include "sandbox/join.h"

#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/json.h"
#include "base/packet.h"
#include "sandbox/terminal.h"
#include "sandbox/user_process.h"

namespace loam::sandbox {
namespace {

std::string_view bytes_of(const ControlPacket& packet) {
  return {reinterpret_cast<const char*>(&packet), sizeof packet};
}

Result<Join> join_from(std::string_view bytes) {
  const Json document = LOAM_TRY(Json::parse(bytes));
  Join join;
  join.argv = document["argv"].as_strings();
  for (const auto& [name, value] : document["environment"].as_object())
    join.environment.emplace_back(name, value.as_string());
  join.terminal = document["terminal"].as_bool();
  if (join.argv.empty()) return fail(ErrorCode::invalid, "join: no command");
  return join;
}

}  // namespace

Result<JoinedStreams> send_join(int control, const Ids& ids, const Join& join) {
  JoinedStreams streams;
  Pipe input, output, error;
  std::vector<int> theirs;
  if (!join.terminal) {
    input = LOAM_TRY(make_user_pipe(ids));
    output = LOAM_TRY(make_user_pipe(ids));
    error = LOAM_TRY(make_user_pipe(ids));
    theirs = {input.read_end.get(), output.write_end.get(), error.write_end.get()};
    streams = {.input = std::move(input.write_end),
               .output = std::move(output.read_end),
               .error = std::move(error.read_end)};
  }
  Json environment = Json::object();
  for (const auto& [name, value] : join.environment) environment.set(name, value);
  const Json document = Json::object({{"argv", Json::array_of(join.argv)},
                                      {"environment", std::move(environment)},
                                      {"terminal", join.terminal}});
  std::string bytes(bytes_of({.kind = Control::join, .session = join.session}));
  bytes += document.dump();
  if (bytes.size() > kControlBytesMax)
    return fail(ErrorCode::too_large, "the command and its environment are too large");
  if (send_packet(control, bytes, theirs, MSG_DONTWAIT) < 0)
    return fail_errno("ask the sandbox for a process");
  return streams;
}

Result<pid_t> start_joined(const InitParts& parts, std::uint32_t session, std::string_view bytes,
                           const std::vector<Fd>& descriptors) {
  const Join join = LOAM_TRY(join_from(bytes));
  if (descriptors.size() != (join.terminal ? 0 : 3))
    return fail(ErrorCode::invalid, "join: wrong number of streams");
  Fd terminal;
  if (join.terminal)
    terminal = LOAM_TRY(open_terminal(parts.control, {.kind = 'n', .session = session}));
  const pid_t pid = ::fork();
  if (pid < 0) {
    // A terminal or pipe that is still empty: this does not wait.
    const Error error = fail_errno("fork").value();
    const std::string line = "loam: " + error.text + " (the job has as many processes as it may)\n";
    (void)!::write(join.terminal ? terminal.get() : descriptors[2].get(), line.data(), line.size());
    return tl::unexpected(error);
  }
  if (pid > 0) return pid;
  UserProcess process{.spec = parts.spec,
                      .argv = join.argv,
                      .environment = join.environment,
                      .terminal = terminal.get(),
                      .secrets = parts.secrets};
  if (!join.terminal) {
    process.input = descriptors[0].get();
    process.output = descriptors[1].get();
    process.error = descriptors[2].get();
  }
  run_user_process(process);
}

}  // namespace loam::sandbox
