#include "node/queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace loam::node {
namespace {

sched::Claim claim(sched::ClaimId id, std::uint64_t cpu_milli) {
  return {.id = id, .user = "anna", .account = "lab", .rank = {.cpu_milli = cpu_milli}};
}

struct World {
  explicit World(std::uint32_t cpus)
      : queue(sched::simple_machine({.cpus = cpus, .memory_bytes = 1000}), {},
              {[this](JobId job, sched::TaskId, const sched::Placement&) {
                 granted.push_back(job);
                 if (then) then(job);
               },
               [this](JobId victim, sched::TaskId, JobId) { victims.push_back(victim); },
               [this] { ++unfinished; },
              [this] { return paused; },
              [this] { ++pauses; }},
              [this] { return now; }) {}
  std::int64_t now = 1'000'000;
  std::vector<JobId> granted, victims;
  std::function<void(JobId)> then;
  int unfinished = 0;
  std::string paused;
  int pauses = 0;
  Queue queue;
};

TEST(Queue, GrantsAndReleases) {
  World world(2);
  world.queue.submit(claim(1, 2000));
  world.queue.submit(claim(2, 1000));
  EXPECT_EQ(world.granted, (std::vector<JobId>{1}));
  const auto why = world.queue.explain(2, world.queue.look_ahead());
  ASSERT_EQ(why.short_of.size(), 1U);
  EXPECT_EQ(why.short_of[0].free, 0);
  world.queue.release(1);
  world.queue.release(1);
  EXPECT_EQ(world.granted, (std::vector<JobId>{1, 2}));
  EXPECT_FALSE(world.queue.contains(1));
}

TEST(Queue, AdoptedClaimsAreNeverGrantedAgain) {
  World world(1);
  world.queue.adopt(claim(7, 1000), {});
  world.queue.submit(claim(8, 500));
  EXPECT_TRUE(world.granted.empty());
  world.queue.release(7);
  EXPECT_EQ(world.granted, (std::vector<JobId>{8}));
}

TEST(Queue, ACallbackMaySubmitAndReleaseAgain) {
  World world(1);
  // Starting 2 fails at once: its claim goes, and 3, granted in the same sweep, was cancelled
  // meanwhile.
  world.then = [&](JobId job) {
    if (job == 2) world.queue.release(2), world.queue.release(3);
  };
  world.queue.adopt(claim(1, 1000), {});
  world.queue.submit(claim(2, 500));
  world.queue.submit(claim(3, 500));
  world.queue.release(1);
  EXPECT_EQ(world.granted, (std::vector<JobId>{2}));
  EXPECT_EQ(sched::insane(world.queue.state(), world.now), "");
}

TEST(Queue, TellsVictimsAndTakesThemBack) {
  World world(1);
  sched::Claim job = claim(1, 1000);
  job.preemptible = true;
  world.queue.submit(job);
  sched::Claim service = claim(2, 1000);
  service.priority = 1;
  world.queue.submit(service);
  EXPECT_EQ(world.victims, (std::vector<JobId>{1}));
  world.queue.requeue(1);
  EXPECT_EQ(world.granted, (std::vector<JobId>{1, 2}));
  world.queue.release(2);
  EXPECT_EQ(world.granted, (std::vector<JobId>{1, 2, 1}));
}

TEST(Queue, NothingStartsOrIsPreemptedWhileItIsPaused) {
  World world(1);
  sched::Claim job = claim(1, 1000);
  job.preemptible = true;
  world.queue.submit(job);
  EXPECT_EQ(world.pauses, 0);
  world.paused = "the disk is full";
  sched::Claim service = claim(2, 1000);
  service.priority = 1;
  world.queue.submit(service);
  EXPECT_TRUE(world.victims.empty());
  EXPECT_EQ(world.pauses, 1);
  world.queue.release(1);
  EXPECT_EQ(world.granted, (std::vector<JobId>{1}));
  const sched::Explanation why = world.queue.explain(2, world.queue.look_ahead());
  EXPECT_EQ(sched::explanation_text(why, {}), "the disk is full");
  EXPECT_FALSE(why.expected_start.has_value());
  EXPECT_EQ(sched::insane(world.queue.state(), world.now), "");
  world.paused.clear();
  world.queue.on_time();
  EXPECT_EQ(world.granted, (std::vector<JobId>{1, 2}));
  EXPECT_EQ(world.pauses, 2);
}

TEST(Queue, RefusesWhatNeverFits) {
  World world(2);
  EXPECT_EQ(world.queue.refusal(claim(1, 64000)), "asks for 64 CPUs; this machine has 2");
  EXPECT_EQ(world.queue.refusal(claim(1, 2000)), "");
}

}  // namespace
}  // namespace loam::node
