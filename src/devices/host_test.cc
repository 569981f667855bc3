#include "devices/host.h"

#include <gtest/gtest.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>

#include "base/files.h"
#include "devices/cgroup_limits.h"

namespace loam::devices {
namespace {

class HostTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-devices-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }
  void put(const std::string& path, const std::string& text) {
    const std::string full = folder_ + path;
    ASSERT_TRUE(make_folders(full.substr(0, full.rfind('/'))));
    ASSERT_TRUE(write_file_atomic(full, text));
  }
  std::string folder_;
};

TEST_F(HostTest, CapacityIsOfThisMachine) {
  const Capacity capacity = read_capacity();
  EXPECT_GE(capacity.cpus, 1U);
  EXPECT_LE(capacity.cpus, static_cast<std::uint32_t>(::sysconf(_SC_NPROCESSORS_CONF)));
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  EXPECT_GT(capacity.memory_bytes, 0U);
  EXPECT_LE(capacity.memory_bytes, pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
}

TEST_F(HostTest, TheSmallestV2LimitUpToTheTopCounts) {
  CgroupView view;
  view.mountinfo = "30 20 0:26 / /cg rw,nosuid - cgroup2 cgroup2 rw\n";
  view.self = "0::/a/b\n";
  view.prefix = folder_;
  put("/cg/a/memory.max", "1000\n");
  put("/cg/a/b/memory.max", "max\n");
  put("/cg/a/cpu.max", "150000 100000\n");
  put("/cg/a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(memory_limit(view), 1000U);
  EXPECT_EQ(cpu_quota_milli(view), 1500U);
}

TEST_F(HostTest, V1LimitsBelowAPartlyMountedHierarchy) {
  CgroupView view;
  view.mountinfo =
      "30 20 0:26 /docker/x /cg/memory rw - cgroup cgroup rw,memory\n"
      "31 20 0:27 /docker/x /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
  view.self = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x/inner\n";
  view.prefix = folder_;
  put("/cg/memory/memory.limit_in_bytes", "2000\n");
  put("/cg/cpu/inner/cpu.cfs_quota_us", "-1\n");
  put("/cg/cpu/inner/cpu.cfs_period_us", "100000\n");
  put("/cg/cpu/cpu.cfs_quota_us", "200000\n");
  put("/cg/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(memory_limit(view), 2000U);
  EXPECT_EQ(cpu_quota_milli(view), 2000U);
}

TEST_F(HostTest, NoCgroupIsNoLimit) {
  CgroupView view;
  view.prefix = folder_;
  EXPECT_EQ(memory_limit(view), ~std::uint64_t{0});
  EXPECT_EQ(cpu_quota_milli(view), ~std::uint64_t{0});
}

TEST(HostFacts, SayWhatTheKernelSaysAndAreAFixedPoint) {
  const Json facts = read_host_facts();
  utsname names{};
  ::uname(&names);
  EXPECT_EQ(facts["kernel"]["release"].as_string(), names.release);
  EXPECT_EQ(facts["kernel"]["command_line_sha256"].as_string().size(), 64U);
  EXPECT_EQ(facts["cpu"]["flags_sha256"].as_string().size(), 64U);
  EXPECT_GE(facts["cpu"]["topology"]["threads"].as_int(), 1);
  const Json::Array nodes = facts["cpu"]["topology"]["numa"].as_array();
  ASSERT_GE(nodes.size(), 1U);
  EXPECT_GE(nodes[0]["threads"].as_int(), 1);
  EXPECT_TRUE(nodes[0]["memory_bytes"].is_null());  // plugged in and out
  EXPECT_GT(facts["memory"]["total_bytes"].as_int(), 0);
  EXPECT_FALSE(facts["cgroup_mode"].as_string().empty());
  // A record's name: the same machine twice gives the same bytes.
  EXPECT_EQ(facts.dump(), read_host_facts().dump());
}

}  // namespace
}  // namespace loam::devices
