#include "shim/rendezvous.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace loam::shim {
namespace {

constexpr std::uint16_t kPortInOwnNetwork = 29'500;  // torchrun's

// Bound to any port of all addresses; an empty one where the host has no such family.
template <class Address>
Fd bind_any(Address address, int family) {
  Fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1, off = 0;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return {};
  // One port for both families.
  if (family == AF_INET6)
    (void)::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

}  // namespace

Result<Rendezvous> take_rendezvous(const api::AttemptPlan& plan) {
  if (plan.network == api::Network::none)
    return Rendezvous{.port = kPortInOwnNetwork, .reserved = {}};
  Fd fd = bind_any(sockaddr_in6{.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT}, AF_INET6);
  if (!fd) fd = bind_any(sockaddr_in{.sin_family = AF_INET, .sin_addr = {INADDR_ANY}}, AF_INET);
  if (!fd) return fail_errno("a port where the ranks meet");
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return fail_errno("a port where the ranks meet");
  const std::uint16_t port = bound.ss_family == AF_INET6
                                 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                 : reinterpret_cast<const sockaddr_in&>(bound).sin_port;
  return Rendezvous{.port = ntohs(port), .reserved = std::move(fd)};
}

}  // namespace loam::shim
