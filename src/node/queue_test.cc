#include "node/queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace loam::node {
namespace {

TEST(Queue, GrantsAndReleases) {
  std::vector<JobId> granted;
  Queue queue({2000, 1000}, [&](JobId job) { granted.push_back(job); });
  queue.submit(1, {2000, 10});
  queue.submit(2, {1000, 10});
  EXPECT_EQ(granted, (std::vector<JobId>{1}));
  EXPECT_EQ(queue.explain(2), "waits for 1 of 2 CPUs (0 free)");
  queue.release(1);
  queue.release(1);
  EXPECT_EQ(granted, (std::vector<JobId>{1, 2}));
  EXPECT_FALSE(queue.contains(1));
}

TEST(Queue, AdoptedClaimsAreNeverGrantedAgain) {
  std::vector<JobId> granted;
  Queue queue({1000, 1000}, [&](JobId job) { granted.push_back(job); });
  queue.adopt(7, {1000, 0});
  queue.submit(8, {500, 0});
  EXPECT_TRUE(granted.empty());
  queue.release(7);
  EXPECT_EQ(granted, (std::vector<JobId>{8}));
}

TEST(Queue, ACallbackMaySubmitAndReleaseAgain) {
  std::vector<JobId> granted;
  Queue* self = nullptr;
  Queue queue({1000, 1000}, [&](JobId job) {
    granted.push_back(job);
    // Starting 2 fails at once: its claim goes, and 3, granted in the same sweep, was cancelled
    // meanwhile.
    if (job == 2) self->release(2), self->release(3);
  });
  self = &queue;
  queue.adopt(1, {1000, 0});
  queue.submit(2, {500, 0});
  queue.submit(3, {500, 0});
  queue.release(1);
  EXPECT_EQ(granted, (std::vector<JobId>{2}));
  EXPECT_TRUE(sched::sane(queue.state()));
}

TEST(Queue, RefusesWhatNeverFits) {
  Queue queue({2000, 1000}, [](JobId) {});
  EXPECT_EQ(queue.refusal({64000, 0}), "asks for 64 CPUs; this machine has 2");
  EXPECT_EQ(queue.refusal({2000, 0}), "");
}

}  // namespace
}  // namespace loam::node
