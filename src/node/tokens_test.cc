#include "node/tokens.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/clock.h"
#include "base/files.h"
#include "node/migrations.h"

namespace loam::node {
namespace {

class TokensTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-tokens-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    auto opened = Database::open(folder_ + "/node.db", migrations());
    ASSERT_TRUE(opened) << opened.error().text;
    database_ = std::move(*opened);
    tokens_.emplace(*database_);
  }
  void TearDown() override {
    tokens_.reset();
    database_.reset();
    ASSERT_TRUE(remove_tree(folder_));
  }
  std::string make(const std::string& name, Scope scope = Scope::submit, std::int64_t expires_ms = 0) {
    auto made = tokens_->create({.uid = ::getuid(), .name = name, .scope = scope, .expires_ms = expires_ms});
    EXPECT_TRUE(made);
    return made ? made->token : "";
  }
  ErrorCode refused(const std::string& token, const std::string& address, std::int64_t now_ms) {
    const auto caller = tokens_->admit(token, address, now_ms);
    EXPECT_FALSE(caller);
    return caller ? ErrorCode::io : caller.error().code;
  }

  std::string folder_;
  std::unique_ptr<Database> database_;
  std::optional<Tokens> tokens_;
  const std::int64_t now_ = wall_ms();
};

TEST_F(TokensTest, StandsForItsUserWithItsScope) {
  const auto caller = tokens_->admit(make("a", Scope::read), "10.0.0.1", now_);
  ASSERT_TRUE(caller) << caller.error().text;
  EXPECT_EQ(caller->uid, ::getuid());
  EXPECT_EQ(caller->scope, Scope::read);
  EXPECT_GT(caller->token, 0);
}

TEST_F(TokensTest, EveryByteCounts) {
  const std::string good = make("a");
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string wrong = good;
    wrong[i] = wrong[i] == '0' ? '1' : '0';
    EXPECT_FALSE(tokens_->admit(wrong, "a" + std::to_string(i), now_)) << i;
    EXPECT_FALSE(tokens_->admit(good.substr(0, i), "a" + std::to_string(i), now_)) << i;
  }
  EXPECT_FALSE(tokens_->admit(good + "0", "b", now_));
  EXPECT_TRUE(tokens_->admit(good, "b", now_));
}

TEST_F(TokensTest, ExpiresAndIsRevokedForGood) {
  const std::string short_lived = make("a", Scope::submit, now_ + 10);
  EXPECT_TRUE(tokens_->admit(short_lived, "a", now_ + 9));
  EXPECT_EQ(refused(short_lived, "a", now_ + 10), ErrorCode::denied);
  const std::string gone = make("b");
  EXPECT_FALSE(tokens_->revoke(::getuid() + 1, "b"));
  EXPECT_TRUE(tokens_->revoke(::getuid(), "b"));
  EXPECT_EQ(refused(gone, "a", now_), ErrorCode::denied);
  make("b");  // has another number
  EXPECT_EQ(refused(gone, "a", now_), ErrorCode::denied);
}

TEST_F(TokensTest, FailuresOfAnAddressAreCountedForAMinute) {
  const std::string good = make("a");
  for (int i = 0; i < kFailuresFree; ++i) EXPECT_EQ(refused("x", "10.0.0.1", now_), ErrorCode::denied);
  EXPECT_EQ(refused("x", "10.0.0.1", now_ + 1), ErrorCode::busy);
  EXPECT_EQ(refused("x", "10.0.0.2", now_ + 1), ErrorCode::denied);
  EXPECT_TRUE(tokens_->admit(good, "10.0.0.1", now_ + 1));
  EXPECT_EQ(refused("x", "10.0.0.1", now_ + kFailureWindowMs), ErrorCode::denied);
}

TEST_F(TokensTest, AnIpv6NetworkIsOnePlace) {
  for (int i = 0; i < kFailuresFree; ++i)
    EXPECT_EQ(refused("x", "2001:db8:1:2::" + std::to_string(i), now_), ErrorCode::denied);
  EXPECT_EQ(refused("x", "2001:db8:1:2:ffff::1", now_), ErrorCode::busy);
  EXPECT_EQ(refused("x", "2001:db8:1:3::1", now_), ErrorCode::denied);
}

TEST_F(TokensTest, WhoIsRememberedIsBounded) {
  for (int i = 0; i <= kFailuresFree; ++i) (void)refused("x", "10.0.0.1", now_);
  EXPECT_EQ(refused("x", "10.0.0.1", now_), ErrorCode::busy);
  testing::internal::CaptureStderr();
  for (std::size_t i = 0; i < kFailedAddressesMax; ++i)
    EXPECT_EQ(refused("x", "10." + std::to_string(i), now_), ErrorCode::denied);
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_LE(std::count(told.begin(), told.end(), '\n'), kFailureLinesMax + 1);
  EXPECT_EQ(refused("x", "10.0.0.1", now_), ErrorCode::denied);  // forgotten, rather than kept without end
}

}  // namespace
}  // namespace loam::node
