#include "node/checkpoints.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/files.h"

namespace loam::node {
namespace {

using Kind = AttemptEnd::Kind;

constexpr std::int64_t kSoonMs = 100;       // after the last write
constexpr std::int64_t kLaterMs = 10'000;   // long enough to have settled
constexpr std::int64_t kMuchLaterMs = 120'000;

class CheckpointsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-checkpoints-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    ASSERT_TRUE(make_checkpoint_folder(folder_, ::getuid(), ::getgid()));
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }

  // In this order: each one's change is later than that of the one before.
  void write(const std::string& path, const std::string& content = "weights") {
    ::usleep(12'000);  // the clock of files ticks every 4 ms, at 100 Hz every 10
    const std::string full = folder_ + "/files/" + path;
    ASSERT_TRUE(make_folders(full.substr(0, full.rfind('/'))));
    ASSERT_TRUE(write_file_atomic(full, content, {.durable = false}));
  }
  bool there(const std::string& path) { return path_exists(folder_ + "/" + path); }
  Settled settle(Kind kind, std::int64_t after_ms, int number = 1) {
    auto settled = settle_checkpoints(
        folder_, rule_, {.kind = kind, .number = number, .alive_ms = wall_ms() + after_ms});
    EXPECT_TRUE(settled) << settled.error().text;
    return settled.value_or(Settled{});
  }

  std::string folder_;
  CheckpointRule rule_;
};

TEST_F(CheckpointsTest, NoneIsNone) {
  EXPECT_EQ(settle(Kind::willing, 0).name, "");
  write("notes.txt");
  write("checkpoint-1/empty", "");
  EXPECT_EQ(settle(Kind::willing, kLaterMs, 2).name, "");
  ASSERT_TRUE(remove_tree(folder_ + "/files"));
  EXPECT_EQ(settle(Kind::willing, 0, 3).name, "");
}

TEST_F(CheckpointsTest, AfterAWillingEndTheNewestCounts) {
  write("checkpoint-900/model.pt");
  write("checkpoint-1000/model.pt");
  write("other/model.pt");
  const Settled settled = settle(Kind::willing, kSoonMs);
  EXPECT_EQ(settled.name, "checkpoint-1000");
  EXPECT_EQ(settled.size_bytes, 7u);
  EXPECT_TRUE(settled.torn.empty());
}

TEST_F(CheckpointsTest, FilesAreCheckpointsToo) {
  rule_.match = "epoch-*.ckpt";
  write("epoch-1.ckpt");
  write("epoch-2.ckpt");
  EXPECT_EQ(settle(Kind::willing, kSoonMs).name, "epoch-2.ckpt");
}

TEST_F(CheckpointsTest, WhatWasWrittenUntilTheKillIsTorn) {
  write("checkpoint-1/model.pt");
  write("checkpoint-2/model.pt");
  const Settled settled = settle(Kind::cut_short, kSoonMs);
  EXPECT_EQ(settled.name, "checkpoint-1");
  EXPECT_EQ(settled.torn, std::vector<std::string>{"checkpoint-2"});
  EXPECT_FALSE(there("files/checkpoint-2"));
  EXPECT_TRUE(there("torn/checkpoint-2/model.pt"));
}

TEST_F(CheckpointsTest, WhatHadSettledBeforeTheKillCounts) {
  write("checkpoint-1/model.pt");
  write("checkpoint-2/model.pt");
  EXPECT_EQ(settle(Kind::cut_short, kLaterMs).name, "checkpoint-2");
}

TEST_F(CheckpointsTest, TheOnlyOneMayBeTorn) {
  write("checkpoint-1/model.pt");
  const Settled settled = settle(Kind::cut_short, kSoonMs);
  EXPECT_EQ(settled.name, "");
  EXPECT_TRUE(there("torn/checkpoint-1"));
}

TEST_F(CheckpointsTest, WhatLacksAFileOfTheOneBeforeIsTorn) {
  for (const char* path : {"checkpoint-1/global_step1/rank_0.pt", "checkpoint-1/global_step1/rank_1.pt",
                           "checkpoint-1/state.json", "checkpoint-22/global_step22/rank_0.pt",
                           "checkpoint-22/global_step22/rank_1.pt"})
    write(path);
  EXPECT_EQ(settle(Kind::cut_short, kLaterMs).name, "checkpoint-1");
  write("checkpoint-22/global_step22/rank_0.pt");
  write("checkpoint-22/global_step22/rank_1.pt");
  write("checkpoint-22/state.json");
  EXPECT_EQ(settle(Kind::cut_short, kLaterMs, 2).name, "checkpoint-22");
}

TEST_F(CheckpointsTest, TheSdksMarkSaysThatItIsWhole) {
  write("checkpoint-1/model.pt");
  write("checkpoint-2/model.pt");
  write("checkpoint-2/" + std::string(kCheckpointMark), "{\"step\": 2}");
  write("checkpoint-3/model.pt");
  write(".loam-unfinished-1-checkpoint-4/model.pt");
  EXPECT_EQ(settle(Kind::cut_short, kSoonMs).name, "checkpoint-2");
  EXPECT_FALSE(there("files/.loam-unfinished-1-checkpoint-4"));
  write("checkpoint-5/" + std::string(kCheckpointMark), "{\"step\": 5}");
  EXPECT_EQ(settle(Kind::with_boot, 0, 2).name, "checkpoint-5");
}

// A machine that went down may have lost of any file what was not on the disk yet.
TEST_F(CheckpointsTest, WithTheMachineOnlyWhatIsOldEnoughCounts) {
  write("checkpoint-1/model.pt");
  write("checkpoint-2/model.pt");
  EXPECT_EQ(settle(Kind::with_boot, kMuchLaterMs).name, "checkpoint-2");
  const Settled settled = settle(Kind::with_boot, kLaterMs, 2);
  EXPECT_EQ(settled.name, "");
  EXPECT_EQ(settled.torn.size(), 2u);
}

TEST_F(CheckpointsTest, AskedAgainItAnswersTheSame) {
  write("checkpoint-1/model.pt");
  write("checkpoint-2/model.pt");
  write("checkpoint-3/model.pt");
  EXPECT_EQ(settle(Kind::cut_short, kSoonMs).name, "checkpoint-2");
  // 2 is the newest now, and as young as 3 was.
  const Settled again = settle(Kind::cut_short, kSoonMs);
  EXPECT_EQ(again.name, "checkpoint-2");
  EXPECT_EQ(again.torn, std::vector<std::string>{"checkpoint-3"});
  EXPECT_TRUE(there("torn/checkpoint-3"));
  // Interrupted before the torn one was moved.
  ASSERT_EQ(::rename((folder_ + "/torn/checkpoint-3").c_str(),
                     (folder_ + "/files/checkpoint-3").c_str()),
            0);
  EXPECT_EQ(settle(Kind::cut_short, kSoonMs).name, "checkpoint-2");
  EXPECT_FALSE(there("files/checkpoint-3"));
}

// An attempt that ends before it writes anything goes on where the one before it did.
TEST_F(CheckpointsTest, WhatWasTornStaysTorn) {
  write("checkpoint-1/model.pt");
  write("checkpoint-2/model.pt");
  EXPECT_EQ(settle(Kind::cut_short, kSoonMs).name, "checkpoint-1");
  EXPECT_EQ(settle(Kind::willing, kLaterMs, 2).name, "checkpoint-1");
}

TEST_F(CheckpointsTest, TheOldestGo) {
  rule_.keep = 2;
  for (const char* path : {"checkpoint-1/a", "checkpoint-2/a", "checkpoint-3/a", "log.txt"})
    write(path);
  EXPECT_EQ(settle(Kind::willing, kSoonMs).name, "checkpoint-3");
  EXPECT_FALSE(there("files/checkpoint-1"));
  EXPECT_TRUE(there("files/checkpoint-2") && there("files/log.txt"));
}

TEST_F(CheckpointsTest, LinksAreNotFollowed) {
  const std::string outside = folder_ + "/outside";
  ASSERT_EQ(::mkdir(outside.c_str(), 0700), 0);
  ASSERT_TRUE(write_file_atomic(outside + "/keep", "x", {.durable = false}));
  write("checkpoint-1/model.pt");
  ::usleep(12'000);
  ASSERT_EQ(::symlink(outside.c_str(), (folder_ + "/files/checkpoint-2").c_str()), 0);
  ASSERT_EQ(::symlink(outside.c_str(), (folder_ + "/files/.loam-unfinished-x").c_str()), 0);
  ASSERT_EQ(::symlink("/dev/zero", (folder_ + "/files/checkpoint-1/zero").c_str()), 0);
  ASSERT_EQ(::mkfifo((folder_ + "/files/checkpoint-1/fifo").c_str(), 0600), 0);
  EXPECT_EQ(settle(Kind::willing, kSoonMs).name, "checkpoint-1");
  EXPECT_TRUE(there("outside/keep"));
}

TEST_F(CheckpointsTest, WhatIsNoCheckpointIsTheOutput) {
  const std::string output = folder_ + "/output";
  ASSERT_EQ(::mkdir(output.c_str(), 0700), 0);
  write("checkpoint-1/model.pt");
  write("model.pt", "final");
  write("tokenizer/vocabulary.txt");
  ASSERT_TRUE(move_output(folder_, rule_, output));
  ASSERT_TRUE(move_output(folder_, rule_, output));  // again, after a crash
  EXPECT_EQ(read_file(output + "/model.pt").value(), "final");
  EXPECT_TRUE(path_exists(output + "/tokenizer/vocabulary.txt"));
  EXPECT_FALSE(path_exists(output + "/checkpoint-1"));
  EXPECT_TRUE(there("files/checkpoint-1"));
}

TEST(AttemptEnds, WhoEndedByItselfLeftWholeThings) {
  using api::Outcome;
  const auto kind = [](api::ExitRecord record, bool same_boot = true) {
    record.ended_ms = 5;
    return attempt_end(1, record, same_boot, 3);
  };
  EXPECT_EQ(kind({.outcome = Outcome::exited, .code = 0}).kind, Kind::willing);
  EXPECT_EQ(kind({.outcome = Outcome::exited, .code = 1}).kind, Kind::cut_short);
  EXPECT_EQ(kind({.outcome = Outcome::preempted, .code = 75}).kind, Kind::willing);
  EXPECT_EQ(kind({.outcome = Outcome::preempted, .signal = 15}).kind, Kind::cut_short);
  EXPECT_EQ(kind({.outcome = Outcome::timed_out, .code = 1}).kind, Kind::willing);
  EXPECT_EQ(kind({.outcome = Outcome::out_of_memory, .signal = 9}).kind, Kind::cut_short);
  EXPECT_EQ(kind({.outcome = Outcome::failed_to_start}).kind, Kind::willing);
  EXPECT_EQ(kind({.outcome = Outcome::out_of_memory}).alive_ms, 5);
  EXPECT_EQ(kind({.outcome = Outcome::lost}).kind, Kind::cut_short);
  EXPECT_EQ(kind({.outcome = Outcome::lost}).alive_ms, 3);  // when it was found dead says nothing
  EXPECT_EQ(kind({.outcome = Outcome::lost}, false).kind, Kind::with_boot);
}

}  // namespace
}  // namespace loam::node
