#include "env/apt_sources.h"

#include <gtest/gtest.h>

namespace loam::env {
namespace {

constexpr const char* kDebianSources = R"(Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
)";

TEST(AptSources, TurnsEveryKindToTheWantedSuite) {
  const auto text = sources_for(parse_deb822_sources(kDebianSources), "trixie");
  ASSERT_TRUE(text) << text.error().text;
  EXPECT_NE(text->find("Suites: trixie\n"), std::string::npos);
  EXPECT_NE(text->find("Suites: trixie-updates\n"), std::string::npos);
  EXPECT_NE(text->find("URIs: http://mirror.example/debian-security\nSuites: trixie-security\n"),
            std::string::npos);
  EXPECT_NE(text->find("Components: main contrib\n"), std::string::npos);
  EXPECT_EQ(text->find("bookworm"), std::string::npos);
  EXPECT_EQ(text->find("deb-src"), std::string::npos);
}

TEST(AptSources, SidHasNoUpdates) {
  const auto text = sources_for(parse_deb822_sources(kDebianSources), "sid");
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("Suites: sid\n"), std::string::npos);
  EXPECT_EQ(text->find("sid-"), std::string::npos);
}

TEST(AptSources, ReadsOneLineFormatWithOptions) {
  const auto sources = parse_one_line_sources(
      "# deb http://no.example bookworm main\n"
      "deb [signed-by=/k/debian-archive-x.gpg arch=amd64 trusted=yes] http://a.example/debian "
      "bookworm main  non-free # tail\n"
      "deb-src http://a.example/debian bookworm main\n");
  ASSERT_EQ(sources.size(), 1u);
  EXPECT_EQ(sources[0].uris.front(), "http://a.example/debian");
  EXPECT_EQ(sources[0].suite, "bookworm");
  EXPECT_EQ(sources[0].components, (std::vector<std::string>{"main", "non-free"}));
  ASSERT_EQ(sources[0].options.size(), 2u);  // arch is the host's own affair
  EXPECT_EQ(sources[0].options[1].first, "Trusted");
}

TEST(AptSources, LeavesOtherVendorsOut) {
  const auto sources = parse_one_line_sources(
      "deb http://a.example/debian bookworm main\n"
      "deb http://a.example/debian bookworm-backports main\n"
      "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example/debian bookworm main\n"
      "deb https://docker.example/linux/debian bookworm stable\n"
      "deb https://node.example/node_20.x nodistro main\n"
      "deb cdrom:[Debian]/ bookworm main\n");
  const auto text = sources_for(sources, "bookworm");
  ASSERT_TRUE(text);
  EXPECT_EQ(*text,
            "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n\n");
}

TEST(AptSources, KeepsAKeyWrittenIntoTheFile) {
  const auto sources = parse_deb822_sources(
      "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n"
      "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n");
  const auto text = sources_for(sources, "bookworm");
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"),
            std::string::npos);
}

TEST(AptSources, PassesDisabledStanzasOver) {
  EXPECT_TRUE(parse_deb822_sources(
                  "Enabled: no\nTypes: deb\nURIs: http://a\nSuites: bookworm\nComponents: main\n")
                  .empty());
}

TEST(AptSources, SaysHowToGetAMirror) {
  const auto text =
      sources_for(parse_one_line_sources("deb http://u.example/ubuntu noble main\n"), "bookworm");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::unavailable);
  EXPECT_NE(text.error().text.find("/etc/apt/sources.list.d"), std::string::npos);
}

}  // namespace
}  // namespace loam::env
