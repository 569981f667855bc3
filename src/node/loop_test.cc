#include "node/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
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
