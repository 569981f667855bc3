#include "sandbox/join.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <utility>

#include "base/json.h"
#include "base/packet.h"
#include "sandbox/terminal.h"
#include "sandbox/user_process.h"

namespace loam::sandbox {
namespace {

template <class Packet>
std::string_view bytes_of(const Packet& packet) {
  return {reinterpret_cast<const char*>(&packet), sizeof packet};
}

// No descriptor: errno says why.
Fd connect_loopback(int family, std::uint16_t port) {
  Fd socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return {};
  const sockaddr_in four{.sin_family = AF_INET,
                         .sin_port = htons(port),
                         .sin_addr = {htonl(INADDR_LOOPBACK)},
                         .sin_zero = {}};
  const sockaddr_in6 six{.sin6_family = AF_INET6,
                         .sin6_port = htons(port),
                         .sin6_flowinfo = 0,
                         .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                         .sin6_scope_id = 0};
  const int done =
      family == AF_INET
          ? ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&four), sizeof four)
          : ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&six), sizeof six);
  if (done == 0 || errno == EINPROGRESS) return socket;
  const int error = errno;
  socket.reset();
  errno = error;
  return {};
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
  std::string bytes(bytes_of(ControlPacket{.kind = Control::join, .session = join.session}));
  bytes += document.dump();
  if (bytes.size() > kControlBytesMax)
    return fail(ErrorCode::too_large, "the command and its environment are too large");
  if (send_packet(control, bytes, theirs, MSG_DONTWAIT) < 0)
    return fail_errno("ask the sandbox for a process");
  return streams;
}

Result<void> send_connect(int control, std::uint32_t session, Loopback where, std::uint16_t port) {
  const ControlPacket packet{.kind = Control::connect,
                             .number = static_cast<std::uint8_t>(where),
                             .port = port,
                             .session = session};
  if (send_packet(control, bytes_of(packet), {}, MSG_DONTWAIT) < 0)
    return fail_errno("ask the sandbox for a connection");
  return {};
}

void start_connection(int control, const ControlPacket& packet) {
  const bool six = packet.number == static_cast<std::uint8_t>(Loopback::ipv6);
  const Fd socket = connect_loopback(six ? AF_INET6 : AF_INET, packet.port);
  const InitPacket answer{
      .kind = 'c', .status = socket ? 0 : errno, .session = packet.session};
  const int fd = socket.get();
  (void)send_packet(control, bytes_of(answer), std::span(&fd, socket ? 1 : 0));
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
