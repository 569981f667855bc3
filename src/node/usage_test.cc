#include "node/usage.h"

#include <cstdlib>
#include <optional>

#include "node/database_fixture.h"

namespace loam::node {
namespace {

class UsageTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    usage_.emplace(*database_);
  }
  void open_again() {
    usage_.reset();
    open();
    usage_.emplace(*database_);
  }
  void commit() { ASSERT_TRUE(database_->commit_turn()); }

  std::optional<Usage> usage_;
};

constexpr std::int64_t kHour = kUsageHourMs;

UsageEntry entry(const std::string& account, const std::string& user, std::int64_t from = 1000,
                 std::int64_t to = 3000) {
  return {.account = account, .user = user, .started_ms = from, .ended_ms = to, .cpu_milli = 500,
          .memory_mib = 64, .rate = 7};
}

TEST_F(UsageTest, WhatIsCommittedOutlivesTheNode) {
  usage_->record(entry("vision", "anna"));
  usage_->record(entry("vision", "anna"));
  commit();
  usage_->record(entry("vision", "anna"));  // not committed: has not happened
  open_again();
  const auto totals = usage_->totals(0);
  ASSERT_EQ(totals.size(), 1u);
  EXPECT_EQ(totals[0].attempts, 2);
  EXPECT_EQ(totals[0].cpu_milli_ms, 2 * 500 * 2000);
  EXPECT_EQ(totals[0].memory_mib_ms, 2 * 64 * 2000);
}

TEST_F(UsageTest, TotalsAreByAccountUserAndDevice) {
  UsageEntry with_devices = entry("vision", "anna");
  with_devices.devices = {{"gpu", 2}, {"licence-x", 1}};
  usage_->record(with_devices);
  usage_->record(entry("vision", "anna"));
  usage_->record(entry("vision", "ben"));
  usage_->record(entry("speech", "anna"));
  const auto totals = usage_->totals(2500);  // rounded to its hour
  ASSERT_EQ(totals.size(), 3u);
  EXPECT_EQ(totals[0].account, "speech");
  EXPECT_EQ(totals[1].user, "anna");
  EXPECT_EQ(totals[1].attempts, 2);
  EXPECT_EQ(totals[1].cpu_milli_ms, 2 * 500 * 2000);
  EXPECT_EQ(totals[1].device_ms.at("gpu"), 2 * 2000);
  EXPECT_EQ(totals[1].device_ms.at("licence-x"), 2000);
  EXPECT_TRUE(totals[2].device_ms.empty());
  EXPECT_TRUE(usage_->totals(kHour).empty());
}

TEST_F(UsageTest, WhatHeldForHoursIsCutAtTheBeginning) {
  usage_->record(entry("vision", "anna", 0, 10 * kHour));
  usage_->record(entry("vision", "anna", 10, 10 * kHour + 1));  // begins and ends like no other
  const auto totals = usage_->totals(7 * kHour + 5);
  ASSERT_EQ(totals.size(), 1u);
  EXPECT_EQ(totals[0].attempts, 2);
  EXPECT_NEAR(static_cast<double>(totals[0].cpu_milli_ms), 500.0 * 6 * kHour + 500, 2);
}

TEST_F(UsageTest, ShortOnesMakeOneRowAnHour) {
  for (int i = 0; i < 1000; ++i) usage_->record(entry("vision", "anna", i, i + 2000));
  usage_->record(entry("vision", "anna", kHour, kHour + 1));
  EXPECT_EQ(database_->query("SELECT count(*) FROM usage")[0].integer(0), 2);
  EXPECT_EQ(usage_->totals(0)[0].attempts, 1001);
}

TEST_F(UsageTest, AYearOfALargeMachineIsNoOverflow) {
  UsageEntry year = entry("vision", "anna", kHour, 366 * 24 * kHour);
  year.cpu_milli = 512'000;
  year.memory_mib = 4 << 20;
  usage_->record(year);
  const auto totals = usage_->totals(183 * 24 * kHour);
  EXPECT_NEAR(static_cast<double>(totals[0].cpu_milli_ms) / 1000 / kHour, 512.0 * 183 * 24, 1);
}

TEST_F(UsageTest, AClockThatWentBackCountsNothing) {
  usage_->record(entry("vision", "anna", 1000, 500));
  EXPECT_EQ(usage_->totals(0)[0].cpu_milli_ms, 0);
}

TEST_F(UsageTest, SpansAreWhatEndedLater) {
  usage_->record(entry("vision", "anna"));
  usage_->record(entry("vision", "ben", kHour, 5 * kHour));
  std::vector<std::string> users;
  usage_->spans(kHour, [&](const std::string&, const std::string& user, const sched::HeldSpan& span) {
    users.push_back(user);
    EXPECT_EQ(span.amount, 7 * 4 * kHour);
    EXPECT_EQ(span.from, kHour);
    EXPECT_EQ(span.to, 5 * kHour);
  });
  EXPECT_EQ(users, std::vector<std::string>{"ben"});
}

}  // namespace
}  // namespace loam::node
