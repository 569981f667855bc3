#include "env/apt.h"

#include <gtest/gtest.h>

namespace loam::env {
namespace {

constexpr const char* kHash = "6f1d0ab29d4c2b4a9d9c1c9f4f8b5e1c0a3f2e1d4c5b6a798897a6b5c4d3e2f1";

TEST(Apt, ReadsALineOfPrintUris) {
  const auto deb = parse_uri_line(
      std::string("'http://deb.example/pool/n/python3-numpy_1.24.2-1%2bdeb12u1_amd64.deb' "
                  "python3-numpy_1%3a1.24.2-1+deb12u1_amd64.deb 4959648 SHA256:") +
      kHash);
  ASSERT_TRUE(deb) << deb.error().text;
  EXPECT_EQ(deb->name, "python3-numpy");
  EXPECT_EQ(deb->version, "1:1.24.2-1+deb12u1");
  EXPECT_EQ(deb->architecture, "amd64");
  EXPECT_EQ(deb->size_bytes, 4959648u);
  EXPECT_EQ(deb->sha256.hex(), kHash);
  EXPECT_EQ(deb->file(), "python3-numpy_1%3a1.24.2-1+deb12u1_amd64.deb");
}

TEST(Apt, RefusesOtherLines) {
  for (const std::string& line :
       {std::string("'http://a/b.deb' b_1_all.deb 12 MD5Sum:00"), std::string("'"), std::string(),
        std::string("'x' y"), std::string("'x' a_b.deb 1 SHA256:") + kHash,
        std::string("'x' a_1_all.deb x SHA256:") + kHash})
    EXPECT_FALSE(parse_uri_line(line)) << line;
}

TEST(Apt, TakesNamesAndVersionsOnly) {
  for (const char* name :
       {"python3-numpy", "g++", "libstdc++6", "python3=3.11.2-1+b1", "zlib1g:amd64", "0ad"})
    EXPECT_TRUE(check_package_name(name)) << name;
  // Each of these means something else to apt-get: an option, a removal, a pattern, a file.
  for (const char* name : {"-y", "--allow-unauthenticated", "bash-", "?essential", "~nbash",
                           "./a.deb", "/a.deb", "a b", "", "a", "python*", "a=$(x)", "+a"})
    EXPECT_FALSE(check_package_name(name)) << name;
}

TEST(Apt, NamesTheNearestPackage) {
  EXPECT_EQ(missing_package_text("python3-nmupy", "bookworm",
                                 {"python3", "python3-empy", "python3-numpy", "python3-scipy"}),
            "python3-nmupy: no such package in debian:bookworm (did you mean python3-numpy?)");
  EXPECT_EQ(missing_package_text("qqqqqqqqqqqq", "bookworm", {"python3"}),
            "qqqqqqqqqqqq: no such package in debian:bookworm");
}

TEST(Apt, ChecksSuites) {
  EXPECT_TRUE(valid_suite("bookworm"));
  for (const char* suite : {"", "-x", "book worm", "a/b", "../x", "a;b"})
    EXPECT_FALSE(valid_suite(suite)) << suite;
}

}  // namespace
}  // namespace loam::env
