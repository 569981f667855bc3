// An attempt and its devices: held from before it starts until nothing of it is left.
#include "sandbox/device_lock.h"
#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

class HeldDevicesTest : public ShimTest {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    plan_.device_lock_folder = folder_ + "/locks";
    plan_.device_lock_owner = "alice's node";
    plan_.device_locks = {{.device = "camera-0", .names = {"char-81-0"}}};
    plan_.devices = {{.path = "/dev/fuse", .major_number = 10, .minor_number = 229}};
  }
  std::string holder() {
    const auto holder = sandbox::lock_holder(plan_.device_lock_folder,
                                             {.device = "camera-0", .names = {"char-81-0"}});
    return holder ? holder->words : "";
  }
};

TEST_F(HeldDevicesTest, HeldWhileItRunsAndFreeBeforeItsEndIsHeardOf) {
  Node node = start("echo ready; exec sleep 1000");
  await_output("ready");
  EXPECT_EQ(holder(), "attempt 7 of alice's node, process " + std::to_string(shim_));
  node.send(Json::object({{"type", "kill"}}));
  EXPECT_EQ(node.receive_exit().outcome, api::Outcome::cancelled);
  EXPECT_EQ(holder(), "");  // although the shim still waits for its node's word
}

TEST_F(HeldDevicesTest, TheJobSeesItsDevice) {
  const auto record = run("[ -c /dev/fuse ] && exec 3</dev/fuse && exit 3");
  EXPECT_EQ(record.code, 3) << record.error << output();
}

TEST_F(HeldDevicesTest, WhatIsHeldElsewhereIsNotStarted) {
  ASSERT_TRUE(sandbox::make_lock_folder(plan_.device_lock_folder));
  const auto held = sandbox::take_device_lock(plan_.device_lock_folder,
                                              {.device = "x", .names = {"char-81-0"}},
                                              {.words = "attempt 1 of bob's node"}, 0);
  ASSERT_TRUE(held);
  plan_.device_locks.insert(plan_.device_locks.begin(), {.device = "other", .names = {"free"}});
  const auto record = run("echo started");
  EXPECT_EQ(record.outcome, api::Outcome::device_busy);
  EXPECT_EQ(record.device, "camera-0");
  EXPECT_TRUE(record.error.starts_with("camera-0 is held by attempt 1 of bob's node")) << record.error;
  EXPECT_EQ(output(), "");
  EXPECT_FALSE(
      sandbox::lock_holder(plan_.device_lock_folder, {.device = "y", .names = {"free"}}));
}

// Without a group: the pid namespace says that its processes are still there.
TEST_F(HeldDevicesTest, AKilledShimsDeviceWaitsForItsProcesses) {
  Node node = start("echo ready; exec sleep 1000");
  await_output("ready");
  const auto pids =
      sandbox::pid_namespace_from(read_file(plan_.folder + "/pid_namespace").value_or(""));
  ASSERT_TRUE(sandbox::populated(pids));
  ::kill(shim_, SIGKILL);
  (void)::waitpid(std::exchange(shim_, -1), nullptr, 0);
  const auto taken = sandbox::take_device_lock(plan_.device_lock_folder,
                                               {.device = "camera-0", .names = {"char-81-0"}},
                                               {.words = "attempt 8"}, kPatienceMs);
  ASSERT_TRUE(taken) << taken.error().text;
  EXPECT_FALSE(sandbox::populated(pids));
}

}  // namespace
}  // namespace loam::shim
