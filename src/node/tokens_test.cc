#include "node/tokens.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>

#include "base/clock.h"
#include "node/database_fixture.h"

namespace loam::node {
namespace {

class TokensTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    tokens_.emplace(
        *database_,
        [this](std::uint32_t uid, const auto& found) {
          ++asked_;
          found(users_.contains(uid) ? Result<Tokens::Member>(users_.at(uid)) : fail(no_user_, "no such user"));
        },
        [this] { return clock_; });
  }
  void TearDown() override {
    tokens_.reset();
    DatabaseTest::TearDown();
  }
  std::string make(const std::string& name, Scope scope = Scope::submit, std::int64_t expires_ms = 0) {
    auto made = tokens_->create(
        {.uid = kAnna, .user = "anna", .name = name, .scope = scope, .expires_ms = expires_ms});
    EXPECT_TRUE(made);
    return made ? made->token : "";
  }
  Result<Caller> admit(const std::string& token, const std::string& address = "10.0.0.1") {
    Result<Caller> caller = fail(ErrorCode::io, "no answer");
    tokens_->admit(token, address, [&](Result<Caller> answer) { caller = std::move(answer); });
    return caller;
  }
  ErrorCode refused(const std::string& token, const std::string& address = "10.0.0.1") {
    const auto caller = admit(token, address);
    EXPECT_FALSE(caller);
    return caller ? ErrorCode::io : caller.error().code;
  }
  void pass(std::int64_t ms) { clock_.wall_ms += ms, clock_.steady_ms += ms; }
  static Tokens::Member member(std::uint32_t uid, const std::string& name) {
    return {.user = {.uid = uid, .gid = uid, .name = name, .home = "/"}, .groups = {uid}};
  }

  static constexpr std::uint32_t kAnna = 4001;
  static constexpr std::int64_t kMinute = 60'000;

  std::optional<Tokens> tokens_;
  Tokens::Now clock_{.wall_ms = wall_ms(), .steady_ms = 5};  // soon after the machine's start
  std::map<std::uint32_t, Tokens::Member> users_{{kAnna, member(kAnna, "anna")}};
  ErrorCode no_user_ = ErrorCode::not_found;
  int asked_ = 0;
};

TEST_F(TokensTest, StandsForItsUserWithItsScope) {
  const auto caller = admit(make("a", Scope::read));
  ASSERT_TRUE(caller) << caller.error().text;
  EXPECT_EQ(caller->uid, kAnna);
  EXPECT_EQ(caller->groups, std::vector<std::uint32_t>{kAnna});
  EXPECT_EQ(caller->scope, Scope::read);
  EXPECT_GT(caller->token, 0);
  EXPECT_EQ(caller->token_until_ms, 0);
}

TEST_F(TokensTest, EveryByteCounts) {
  const std::string good = make("a");
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string wrong = good;
    wrong[i] = wrong[i] == '0' ? '1' : '0';
    EXPECT_FALSE(admit(wrong, "a" + std::to_string(i))) << i;
    EXPECT_FALSE(admit(good.substr(0, i), "a" + std::to_string(i))) << i;
  }
  EXPECT_FALSE(admit(good + "0", "b"));
  EXPECT_TRUE(admit(good, "b"));
}

TEST_F(TokensTest, ExpiresAndIsRevokedForGood) {
  const std::string short_lived = make("a", Scope::submit, clock_.wall_ms + 10);
  pass(9);
  const auto caller = admit(short_lived);
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->token_until_ms, clock_.wall_ms + 1);
  pass(1);
  EXPECT_EQ(refused(short_lived), ErrorCode::denied);
  const std::string gone = make("b");
  EXPECT_FALSE(tokens_->revoke(kAnna + 1, "b"));
  EXPECT_TRUE(tokens_->revoke(kAnna, "b"));
  EXPECT_EQ(refused(gone), ErrorCode::denied);
  make("b");  // has another number
  EXPECT_EQ(refused(gone), ErrorCode::denied);
}

// Numbers are given again: what anna made is not to act as ben.
TEST_F(TokensTest, EndsWithItsUser) {
  const std::string good = make("a");
  EXPECT_TRUE(admit(good));
  users_ = {{kAnna, member(kAnna, "ben")}};
  pass(kMinute);
  const auto refusal = admit(good);
  ASSERT_FALSE(refusal);
  EXPECT_EQ(refusal.error().code, ErrorCode::denied);
  EXPECT_NE(refusal.error().text.find("'anna' is no longer"), std::string::npos) << refusal.error().text;
  users_ = {{kAnna + 1, member(kAnna + 1, "anna")}};  // her name has another number
  pass(kMinute);
  EXPECT_EQ(refused(good), ErrorCode::denied);
  users_ = {{kAnna, member(kAnna, "anna")}};
  EXPECT_TRUE(admit(good));
}

TEST_F(TokensTest, ATokenFromBeforeNamesWereKeptIsBoundAtItsFirstUse) {
  const std::string good = make("a");
  database_->write("UPDATE tokens SET user=''", {});
  EXPECT_TRUE(admit(good));
  users_ = {{kAnna, member(kAnna, "ben")}};
  pass(kMinute);
  EXPECT_EQ(refused(good), ErrorCode::denied);
}

TEST_F(TokensTest, ANameServiceThatFailsIsNoRefusal) {
  const std::string good = make("a");
  users_.clear();
  no_user_ = ErrorCode::unavailable;
  EXPECT_EQ(refused(good), ErrorCode::unavailable);
}

TEST_F(TokensTest, AsksForItsUserOnceAMinuteWhateverTheTimeOfDayDoes) {
  const std::string good = make("a");
  EXPECT_TRUE(admit(good));
  clock_.wall_ms -= 24 * 60 * kMinute;  // set back
  clock_.steady_ms += kMinute - 1;
  EXPECT_TRUE(admit(good));
  EXPECT_EQ(asked_, 1);
  clock_.steady_ms += 1;
  EXPECT_TRUE(admit(good));
  EXPECT_EQ(asked_, 2);
}

TEST_F(TokensTest, RevokedWhileItsUserIsLookedUpItStandsForNobody) {
  std::function<void(Result<Tokens::Member>)> found;
  Tokens slow(*database_, [&](std::uint32_t, const auto& answer) { found = answer; }, [this] { return clock_; });
  Result<Caller> caller = fail(ErrorCode::io, "no answer");
  slow.admit(make("a"), "10.0.0.1", [&](Result<Caller> answer) { caller = std::move(answer); });
  ASSERT_TRUE(found);
  EXPECT_TRUE(slow.revoke(kAnna, "a"));
  found(users_.at(kAnna));
  ASSERT_FALSE(caller);
  EXPECT_EQ(caller.error().code, ErrorCode::denied);
}

TEST_F(TokensTest, FailuresOfAnAddressAreCountedForAMinute) {
  const std::string good = make("a");
  for (int i = 0; i < kFailuresFree; ++i) EXPECT_EQ(refused("x"), ErrorCode::denied);
  pass(1);
  EXPECT_EQ(refused("x"), ErrorCode::busy);
  EXPECT_EQ(refused("x", "10.0.0.2"), ErrorCode::denied);
  EXPECT_TRUE(admit(good));
  clock_.wall_ms -= 24 * 60 * kMinute;  // set back: the minute is over all the same
  clock_.steady_ms += kFailureWindowMs;
  EXPECT_EQ(refused("x"), ErrorCode::denied);
}

TEST_F(TokensTest, AnIpv6NetworkIsOnePlace) {
  for (int i = 0; i < kFailuresFree; ++i)
    EXPECT_EQ(refused("x", "2001:db8:1:2::" + std::to_string(i)), ErrorCode::denied);
  EXPECT_EQ(refused("x", "2001:db8:1:2:ffff::1"), ErrorCode::busy);
  EXPECT_EQ(refused("x", "2001:db8:1:3::1"), ErrorCode::denied);
}

TEST_F(TokensTest, WhoIsRememberedIsBounded) {
  for (int i = 0; i <= kFailuresFree; ++i) (void)refused("x");
  EXPECT_EQ(refused("x"), ErrorCode::busy);
  testing::internal::CaptureStderr();
  for (std::size_t i = 0; i < kFailedAddressesMax; ++i)
    EXPECT_EQ(refused("x", "10." + std::to_string(i)), ErrorCode::denied);
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_LE(std::count(told.begin(), told.end(), '\n'), kFailureLinesMax + 1);
  EXPECT_EQ(refused("x"), ErrorCode::denied);  // forgotten, rather than kept without end
}

}  // namespace
}  // namespace loam::node
