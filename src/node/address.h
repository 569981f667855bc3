// Where on the network somebody is, as far as it may be counted.
#pragma once

#include <string>

namespace loam::node {

// The place by which strangers are counted: of IPv4 the address, also where it comes written as IPv6
// (RFC 4291, 2.5.5.2); of IPv6 the /64, for whoever has a network has 2^64 addresses. What is no
// address is its own place.
std::string network_of(const std::string& address);

}  // namespace loam::node
