#include "gateway/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <sstream>

#include "base/files.h"
#include "base/text.h"

namespace loam::gateway {
namespace {

constexpr int kBacklog = 1024;
constexpr std::string_view kListenState = "0A";  // TCP_LISTEN in /proc/net/tcp

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int port = 0;
};

Result<Address> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  const auto wrong = [&] {
    return fail(ErrorCode::invalid,
                "endpoint '" + printable(text) +
                    "': expected ADDRESS:PORT, such as 127.0.0.1:8000 or [::1]:8000");
  };
  if (colon == std::string::npos) return wrong();
  std::string host = text.substr(0, colon);
  const std::string_view digits = std::string_view(text).substr(colon + 1);
  Address address;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (end.ec != std::errc() || end.ptr != digits.data() + digits.size()) return wrong();
  if (address.port < 0 || address.port > 65'535) return wrong();
  if (host == "localhost") host = "127.0.0.1";
  const auto port = htons(static_cast<std::uint16_t>(address.port));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    address.size = sizeof *v6;
    if (::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6->sin6_addr) != 1)
      return wrong();
    return address;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  v4->sin_family = AF_INET;
  v4->sin_port = port;
  address.size = sizeof *v4;
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) return wrong();
  return address;
}

// The inode of the listening socket, "" where none is seen. Columns of /proc/net/tcp: proc(5).
std::string listening_inode(const char* table, int port) {
  const auto content = read_file(table);
  if (!content) return "";
  std::istringstream lines(*content);
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
    fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >>
        timeout >> inode;
    const auto colon = local.rfind(':');
    if (state != kListenState || colon == std::string::npos) continue;
    if (std::strtol(local.c_str() + colon + 1, nullptr, 16) == port) return inode;
  }
  return "";
}

bool holds_socket(const std::string& process, const std::string& link) {
  const std::string folder = "/proc/" + process + "/fd";
  const auto names = list_folder(folder);
  if (!names) return false;
  for (const std::string& name : *names) {
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlink((folder + "/" + name).c_str(), target.data(), target.size());
    if (size > 0 && std::string_view(target.data(), static_cast<std::size_t>(size)) == link)
      return true;
  }
  return false;
}

std::string bound_address(int fd, const std::string& asked) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return asked;
  const std::uint16_t port = storage.ss_family == AF_INET6
                                 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                                 : reinterpret_cast<sockaddr_in*>(&storage)->sin_port;
  return asked.substr(0, asked.rfind(':') + 1) + std::to_string(ntohs(port));
}

}  // namespace

std::string port_holder(int port) {
  std::string inode = listening_inode("/proc/net/tcp", port);
  if (inode.empty()) inode = listening_inode("/proc/net/tcp6", port);
  const auto processes = list_folder("/proc");
  if (inode.empty() || !processes) return "";
  for (const std::string& process : *processes) {
    if (process.find_first_not_of("0123456789") != std::string::npos) continue;
    if (!holds_socket(process, "socket:[" + inode + "]")) continue;
    const auto name = read_file("/proc/" + process + "/comm");
    return (name ? printable(trim(*name)) : "a process") + " (pid " + process + ")";
  }
  return "";
}

Result<Listener> listen_on(const std::string& text) {
  const Address address = LOAM_TRY(parse_address(text));
  Listener listener;
  const int family = address.storage.ss_family;
  listener.socket = Fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.socket) return fail_errno("socket");
  const int fd = listener.socket.get();
  // REUSEADDR only lets a restart pass over connections in TIME_WAIT; two listeners it does not
  // allow.
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool bound =
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0;
  if (!bound || ::listen(fd, kBacklog) != 0) {
    if (errno != EADDRINUSE) return fail_errno("endpoint " + text);
    const std::string holder = port_holder(address.port);
    return fail(ErrorCode::exists,
                "endpoint " + text + ": the port is taken by " +
                    (holder.empty() ? "a process that this user cannot see" : holder) +
                    "; end it, or choose another `endpoint:` in loam.yaml");
  }
  listener.address = bound_address(fd, text);
  return listener;
}

}  // namespace loam::gateway
