#include "node/address.h"

#include <gtest/gtest.h>

namespace loam::node {
namespace {

TEST(AddressTest, AnIpv6NetworkIsOnePlaceHoweverItIsWritten) {
  const std::string place = network_of("2001:db8:1:0:a:b:c:d");
  EXPECT_EQ(network_of("2001:db8:1::1"), place);
  EXPECT_EQ(network_of("2001:DB8:1:0:ffff:ffff:ffff:ffff"), place);
  EXPECT_NE(network_of("2001:db8:1:1::1"), place);
  EXPECT_NE(network_of("2001:db8::1"), place);
  EXPECT_EQ(network_of("fe80::1%eth0"), network_of("fe80::2%eth1"));
}

TEST(AddressTest, AMappedAddressIsTheIpv4One) {
  EXPECT_EQ(network_of("::ffff:10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(network_of("::ffff:a00:1"), "10.0.0.1");
  EXPECT_NE(network_of("::ffff:10.0.0.2"), network_of("::ffff:10.0.0.1"));
  EXPECT_EQ(network_of("10.0.0.1"), "10.0.0.1");
}

TEST(AddressTest, WhatIsNoAddressIsItsOwnPlace) {
  for (const char* text : {"", "x", "10.0.0", ":", "1:2:3:4:5:6:7:8:9"}) EXPECT_EQ(network_of(text), text);
}

}  // namespace
}  // namespace loam::node
