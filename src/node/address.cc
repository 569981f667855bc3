#include "node/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

namespace loam::node {
namespace {

constexpr std::size_t kNetworkBytes = 8;  // of 16

std::string text_of(int family, const void* bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(family, bytes, text.data(), text.size()) != nullptr ? text.data() : "";
}

}  // namespace

std::string network_of(const std::string& address) {
  in6_addr parsed{};
  const std::string without_zone = address.substr(0, address.find('%'));
  if (::inet_pton(AF_INET6, without_zone.c_str(), &parsed) != 1) return address;
  if (IN6_IS_ADDR_V4MAPPED(&parsed)) return text_of(AF_INET, parsed.s6_addr + 12);
  std::fill(parsed.s6_addr + kNetworkBytes, parsed.s6_addr + sizeof parsed.s6_addr, 0);
  return text_of(AF_INET6, &parsed) + "/64";
}

}  // namespace loam::node
