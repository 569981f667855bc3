#include "gateway/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "base/text.h"

namespace loam::gateway {
namespace {

constexpr int kBacklog = 1024;

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
    return fail(ErrorCode::exists, "endpoint " + text + ": the port is in use");
  }
  listener.address = bound_address(fd, text);
  return listener;
}

}  // namespace loam::gateway
