#include "node/accounts.h"

#include <gtest/gtest.h>

namespace loam::node {
namespace {

spec::NodeConfig config_of(const std::string& text) {
  auto read = spec::read_node_config(text);
  EXPECT_TRUE(read.config) << spec::format_problems("node.yaml", read.problems);
  return read.config ? *read.config : spec::NodeConfig{};
}

const char* kConfig =
    "devices: {licence-x: 3}\n"
    "queue:\n"
    "  half_life: 1d\n  fair_share: true\n  reservations: 4\n  foresight: 10m\n  fill_limit: 5m\n"
    "  backfill: false\n  preemption: false\n"
    "  weights: {cpus: 2, memory: 0.5, gpus: 8, devices: {licence-x: 3}}\n"
    "  user_quota: {cpus: 4}\n"
    "accounts:\n"
    "  vision: {shares: 3, members: [anna, ben], quota: {gpus: 2, devices: {licence-x: 1}}}\n"
    "  open: {}\n"
    "users:\n"
    "  anna: {shares: 2, account: vision, quota: {cpus: 1.5, memory: 4GiB, running: 5, queued: 9}}\n";

TEST(Accounts, ThePolicyIsWhatTheConfigurationSays) {
  const sched::Policy policy = policy_for(config_of(kConfig));
  EXPECT_EQ(policy.half_life_ms, 24 * 3'600'000);
  EXPECT_EQ(policy.foresight_ms, 600'000);
  EXPECT_EQ(policy.fill_limit_ms, 300'000);
  EXPECT_EQ(policy.reservations, 4u);
  EXPECT_TRUE(policy.fair_share);
  EXPECT_FALSE(policy.backfill);
  EXPECT_FALSE(policy.preemption);
  EXPECT_EQ(policy.weights.cpu_milli_points, 2000);
  EXPECT_EQ(policy.weights.memory_gib_milli_points, 500);
  EXPECT_EQ(policy.weights.gpu_milli_points, 8000);
  EXPECT_EQ(policy.weights.devices.at("licence-x"), 3000);
  EXPECT_EQ(policy.user_default->cpu_milli, 4000);
  EXPECT_EQ(policy.user_default->running, sched::kUnlimited);
  const sched::Party& vision = policy.accounts.at("vision");
  EXPECT_EQ(vision.shares, 3u);
  EXPECT_EQ(vision.quota->devices.at("gpu"), 2);
  EXPECT_EQ(vision.quota->devices.at("licence-x"), 1);
  EXPECT_EQ(vision.quota->cpu_milli, sched::kUnlimited);
  EXPECT_FALSE(policy.accounts.at("open").quota);
  const sched::Quota& anna = *policy.users.at("anna").quota;
  EXPECT_EQ(anna.cpu_milli, 1500);
  EXPECT_EQ(anna.memory_bytes, std::int64_t{4} << 30);
  EXPECT_EQ(anna.running, 5);
  EXPECT_EQ(anna.queued, 9);
}

TEST(Accounts, WithoutAConfigurationThePolicyIsTheSchedulersOwn) {
  const sched::Policy policy = policy_for({}), own;
  EXPECT_EQ(policy.half_life_ms, own.half_life_ms);
  EXPECT_EQ(policy.foresight_ms, own.foresight_ms);
  EXPECT_EQ(policy.fill_limit_ms, own.fill_limit_ms);
  EXPECT_EQ(policy.reservations, own.reservations);
  EXPECT_EQ(policy.weights.cpu_milli_points, own.weights.cpu_milli_points);
  EXPECT_EQ(policy.weights.memory_gib_milli_points, own.weights.memory_gib_milli_points);
  EXPECT_EQ(policy.weights.gpu_milli_points, own.weights.gpu_milli_points);
  EXPECT_EQ(policy.fair_share, own.fair_share);
  EXPECT_EQ(policy.backfill, own.backfill);
  EXPECT_EQ(policy.preemption, own.preemption);
}

std::string outcome(const AccountUser& user, const std::string& asked,
                    const std::string& text = kConfig) {
  const auto account = account_for(config_of(text), user, asked);
  return account ? *account : account.error().text;
}

TEST(Accounts, WhoMayUseWhich) {
  EXPECT_EQ(outcome({"anna"}, ""), "vision");
  EXPECT_EQ(outcome({"anna"}, "default"), "default");
  EXPECT_EQ(outcome({"ben"}, ""), "default");
  EXPECT_EQ(outcome({"ben"}, "vision"), "vision");
  EXPECT_EQ(outcome({"carl"}, "open"), "open");
  EXPECT_EQ(outcome({"carl"}, "vision"),
            "carl is no member of the account 'vision'; you may use open, default");
  EXPECT_EQ(outcome({.user = "root", .root = true}, "vision"), "vision");
  EXPECT_EQ(outcome({"anna"}, "visoin"),
            "there is no account 'visoin' on this node; did you mean 'vision'?");
  // What he may not use is no near name for him.
  EXPECT_EQ(outcome({"carl"}, "visoin"),
            "there is no account 'visoin' on this node; you may use open, default");
  EXPECT_EQ(outcome({"anna"}, "x", ""), "there is no account 'x' on this node; you may use default");
  EXPECT_EQ(outcome({"carl"}, "", "accounts: {default: {members: [anna]}}\n"),
            "carl is no member of the account 'default'; there is none that you may use");
}

}  // namespace
}  // namespace loam::node
