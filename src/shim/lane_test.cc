// A lane: tasks one after another in one sandbox.
#include <algorithm>
#include <map>

#include "api/exit_journal.h"
#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

using api::Outcome;

class LaneTest : public ShimTest {
 protected:
  Node lane(const std::string& script, const char* crash_at = nullptr) {
    const std::string run = folder_ + "/lane-run", output = folder_ + "/lane-output";
    for (const std::string& path : {run, output}) {
      EXPECT_EQ(::mkdir(path.c_str(), 0755), 0);
      EXPECT_EQ(::chown(path.c_str(), kTestId, kTestId), 0);
    }
    plan_.lane = {.run_folder = run, .output_folder = output};
    plan_.binds.push_back({.from = run, .to = "/tmp/run", .writable = true});
    plan_.binds.push_back({.from = output, .to = "/tmp/output", .writable = true});
    return start(script, crash_at);
  }

  Json task(int attempt) const {
    return Json::object({{"attempt", std::to_string(attempt)},
                         {"environment", Json::object({{"TASK", std::to_string(attempt)}})},
                         {"work", folder_ + "/work-" + std::to_string(attempt)}});
  }
  void hand(Node& node, int first, int last) const {
    Json tasks = Json::array();
    for (int attempt = first; attempt <= last; ++attempt) tasks.push(task(attempt));
    node.send(Json::object({{"type", "tasks"}, {"tasks", std::move(tasks)}}));
  }

  // Until so many exits have been told; each is on the disk by then.
  std::map<std::string, api::ExitRecord> exits(Node& node, std::size_t count) {
    std::map<std::string, api::ExitRecord> found;
    while (found.size() < count) {
      const Json packet = node.receive();
      if (packet.is_null()) break;
      for (const Json& document : packet["exits"].as_array()) {
        auto record = api::exit_record_from(document).value();
        EXPECT_FALSE(found.contains(record.attempt)) << "told twice";
        EXPECT_TRUE(journaled(record.attempt));
        found[record.attempt] = std::move(record);
      }
    }
    return found;
  }
  bool journaled(const std::string& attempt) {
    const auto journal = api::read_exit_journal(read_file(plan_.folder + "/exits").value_or(""));
    return std::any_of(journal.exits.begin(), journal.exits.end(),
                       [&](const api::ExitRecord& record) { return record.attempt == attempt; });
  }
  std::string said(int attempt) {
    return read_file(folder_ + "/" + std::to_string(attempt) + "/output/current.log").value_or("");
  }
  std::string left(int attempt, const std::string& path) {
    return read_file(folder_ + "/work-" + std::to_string(attempt) + "/" + path).value_or("(none)");
  }
  Json next(Node& node, const std::string& type) {
    for (;;) {
      Json packet = node.receive();
      if (packet.is_null() || packet["type"].as_string() == type) return packet;
    }
  }
};

TEST_F(LaneTest, EachTaskHasItsOwnAndTheSandboxStays) {
  plan_.environment.emplace_back("TASK", "the lane's");
  Node node = lane(
      "cat /tmp/seen 2>/dev/null; echo $TASK >> /tmp/seen; echo $TASK > /tmp/output/model;"
      "echo $TASK > /tmp/run/metrics; exit $((TASK - 11))");
  hand(node, 11, 13);
  const auto found = exits(node, 3);
  for (int attempt = 11; attempt <= 13; ++attempt) {
    const auto& record = found.at(std::to_string(attempt));
    EXPECT_EQ(record.outcome, Outcome::exited);
    EXPECT_EQ(record.code, attempt - 11);
    EXPECT_EQ(left(attempt, "output/model"), std::to_string(attempt) + "\n");
    EXPECT_EQ(left(attempt, "run/metrics"), std::to_string(attempt) + "\n");
  }
  EXPECT_EQ(said(11), "");
  EXPECT_EQ(said(13), "11\n12\n");
  node.send(Json::object({{"type", "close"}}));
  const api::ExitRecord record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::exited);
  EXPECT_EQ(record.code, 0);
  node.send(Json::object({{"type", "committed"}}));
  EXPECT_EQ(wait_for_shim(), 0);
}

TEST_F(LaneTest, WhatATaskLeavesRunningEndsBeforeTheNext) {
  Node node = lane(
      "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || echo other $p; done;"
      "trap '' TERM HUP; (setsid sleep 1000 &) ; setsid sh -c 'sleep 1000 & sleep 1000' & exit 0");
  hand(node, 11, 15);
  exits(node, 5);
  for (int attempt = 11; attempt <= 15; ++attempt) EXPECT_EQ(said(attempt), "") << attempt;
}

TEST_F(LaneTest, ALimitEndsTheTaskAndTheNextOneRuns) {
  plan_.time_limit_ms = 200;
  plan_.grace_ms = 50;
  Node node = lane("trap '' TERM; [ $TASK = 11 ] && while :; do sleep 0.05; done; exit 4");
  hand(node, 11, 12);
  const auto found = exits(node, 2);
  EXPECT_EQ(found.at("11").outcome, Outcome::timed_out);
  EXPECT_EQ(found.at("11").signal, SIGKILL);
  EXPECT_EQ(found.at("12").outcome, Outcome::exited);
  EXPECT_EQ(found.at("12").code, 4);
}

TEST_F(LaneTest, GivesBackWhatHasNotBegunAndStopsTheOneThatRuns) {
  Node node = lane("[ $TASK = 11 ] && sleep 1000; exit 0");
  hand(node, 11, 14);
  next(node, "tasks");  // 11 has begun
  node.send(Json::object({{"type", "give_back"}}));
  EXPECT_EQ(next(node, "holds")["attempts"].as_strings(), (std::vector<std::string>{"11"}));
  const auto stop = [](const char* attempt) {
    return Json::object({{"type", "stop"}, {"attempt", attempt}, {"outcome", "cancelled"}});
  };
  node.send(stop("12"));  // not its any more
  node.send(stop("11"));
  EXPECT_EQ(exits(node, 1).at("11").outcome, Outcome::cancelled);
  hand(node, 12, 12);
  EXPECT_EQ(exits(node, 1).at("12").outcome, Outcome::exited);
}

TEST_F(LaneTest, GoesOnWithoutANodeAndTellsTheNext) {
  Node node = lane("exit 0");
  hand(node, 11, 30);
  next(node, "tasks");
  node.hang_up();
  for (int waited_ms = 0; waited_ms < kPatienceMs && !journaled("30"); waited_ms += 5)
    ::usleep(5'000);
  Node second = connect();
  EXPECT_EQ(second.receive()["type"].as_string(), "running");
  second.send(Json::object({{"type", "give_back"}}));
  EXPECT_EQ(next(second, "holds")["attempts"].size(), 0U);
  const auto journal = api::read_exit_journal(read_file(plan_.folder + "/exits").value_or(""));
  EXPECT_EQ(journal.exits.size(), 20U);
  EXPECT_EQ(journal.begun.size(), 20U);
}

TEST_F(LaneTest, ToldToEndItRecordsTheTaskThatRan) {
  Node node = lane("trap 'exit 3' TERM; while :; do sleep 0.01; done");
  hand(node, 11, 12);
  next(node, "tasks");
  ::usleep(100'000);  // its trap
  node.send(Json::object({{"type", "stop"}, {"outcome", "preempted"}}));
  EXPECT_EQ(exits(node, 1).at("11").outcome, Outcome::preempted);
  EXPECT_EQ(node.receive_exit().outcome, Outcome::preempted);
  EXPECT_FALSE(journaled("12"));
}

TEST_F(LaneTest, AShimThatDiesLeavesWhatHasBegunInTheJournal) {
  Node node = lane("exit 0", "shim.task_output_moved");
  hand(node, 11, 12);
  (void)wait_for_shim();
  const auto journal = api::read_exit_journal(read_file(plan_.folder + "/exits").value_or(""));
  EXPECT_EQ(journal.begun, (std::vector<std::string>{"11"}));
  EXPECT_TRUE(journal.exits.empty());
}

TEST_F(LaneTest, AProgramThatIsNotThereIsSaidInTheTasksLog) {
  plan_.argv = {"no-such-program"};
  Node node = lane("");
  hand(node, 11, 11);
  EXPECT_EQ(exits(node, 1).at("11").code, 127);
  EXPECT_NE(said(11).find("no-such-program"), std::string::npos) << said(11);
}

}  // namespace
}  // namespace loam::shim
