#include "node/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <thread>
#include <vector>

namespace loam::node {
namespace {

using namespace std::chrono_literals;

TEST(Loop, RunsPostedTasksThenTheTurnsEnd) {
  Loop loop;
  std::vector<std::string> trail;
  loop.on_turn_end([&] { trail.push_back("flush"); });
  loop.post([&] { trail.push_back("a"); });
  loop.post([&] { trail.push_back("b"); });
  loop.post([&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(trail, (std::vector<std::string>{"a", "b", "flush"}));
}

TEST(Loop, OffloadedWorkRunsElsewhereAndItsEndHere) {
  Loop loop;
  const auto here = std::this_thread::get_id();
  std::atomic<int> elsewhere = 0;
  int done = 0;
  constexpr int kTasks = 50;  // more than there are workers
  for (int i = 0; i < kTasks; ++i)
    loop.offload([&] { elsewhere += std::this_thread::get_id() != here ? 1 : 0; },
                 [&] {
                   EXPECT_EQ(std::this_thread::get_id(), here);
                   if (++done == kTasks) loop.stop();
                 });
  loop.run();
  EXPECT_EQ(elsewhere, kTasks);
}

// A user whose work hangs (he has stopped the child that does it) takes two workers, not all.
TEST(Loop, WorkThatWaitsOnAUserHoldsNobodyElse) {
  Loop loop;
  std::latch released(1);
  std::atomic<int> hanging = 0, hanging_most = 0;
  std::vector<std::size_t> order;
  constexpr std::size_t kTasks = 20;
  for (std::size_t i = 0; i < kTasks; ++i)
    loop.offload_for(
        1000,
        [&] {
          hanging_most = std::max(hanging_most.load(), ++hanging);
          released.wait();
          --hanging;
        },
        [&, i] {
          order.push_back(i);
          if (order.size() == kTasks) loop.stop();
        });
  int others = 0;
  for (const std::uint32_t uid : {1001U, 1002U, 1001U})
    loop.offload_for(
        uid, [] {},
        [&] {
          if (++others == 3) loop.offload([] {}, [&] { released.count_down(); });
        });
  loop.run();
  EXPECT_EQ(others, 3);
  EXPECT_EQ(hanging_most, kUserWorkersMax);
  EXPECT_EQ(order.size(), kTasks);
}

TEST(Loop, WorkThatWaitsOnUsersLeavesTheNodeItsOwnWorkers) {
  Loop loop;
  std::latch released(1);
  int ended = 0;
  constexpr int kUsers = 10;
  for (std::uint32_t uid = 0; uid < kUsers; ++uid)
    loop.offload_for(
        uid, [&] { released.wait(); },
        [&] {
          if (++ended == kUsers) loop.stop();
        });
  loop.offload([] {}, [&] { released.count_down(); });
  loop.run();
  EXPECT_EQ(ended, kUsers);
}

TEST(Loop, ADroppedTimerNeverFires) {
  Loop loop;
  bool dropped_fired = false;
  Loop::Timer dropped = loop.after(1ms, [&] { dropped_fired = true; });
  const Loop::Timer kept = loop.after(20ms, [&] { loop.stop(); });
  dropped.reset();
  loop.run();
  EXPECT_FALSE(dropped_fired);
}

TEST(Loop, AWatchFiresWhileReadableAndEndsWhenDropped) {
  Loop loop;
  const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int fired = 0;
  Loop::Watch watch;
  watch = loop.watch_readable(event.get(), [&] {
    // Not read: it must fire again.
    if (++fired < 3) return;
    watch.reset();
    loop.post([&] { loop.post([&] { loop.stop(); }); });
  });
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
  loop.run();
  EXPECT_EQ(fired, 3);
  std::uint64_t value = 0;
  EXPECT_EQ(::read(event.get(), &value, sizeof value), 8);  // still ours, still open
}

TEST(Loop, SleepsAtRest) {
  Loop loop;
  int turns = 0;
  loop.on_turn_end([&] { ++turns; });
  bool worker_ran = false;
  loop.offload([&] { worker_ran = true; }, [] {});  // an idle worker must not wake either
  const Loop::Timer end = loop.after(300ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_TRUE(worker_ran);
  EXPECT_LE(turns, 3);  // the worker's end, the timer, and the first look
}

}  // namespace
}  // namespace loam::node
