// Against the real loam-shim: $LOAM_BIN, else bin/ of the build folder. Needs root.
#include "node/supervisor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "api/attach.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "node/attempt_fence.h"

namespace loam::node {
namespace {

using namespace std::chrono_literals;

std::string shim_program() {
  const char* folder = std::getenv("LOAM_BIN");
  return (folder != nullptr ? std::string(folder) : program_folder() + "/../bin") + "/loam-shim";
}

struct Ended {
  AttemptId id = 0;
  api::ExitRecord record;
  bool reboot = false;
};

// One life of a node over the test's state folder.
class NodeLife {
 public:
  NodeLife(const NodeContext& context, const std::string& shim) {
    auto opened = Database::open(context.paths.database, migrations());
    EXPECT_TRUE(opened) << opened.error().text;
    database = std::move(*opened);
    supervisor = std::make_unique<Supervisor>(
        loop, *database, context,
        Supervisor::Events{[this](AttemptId id) { running.push_back(id); },
                           [this](AttemptId id, const api::ExitRecord& record, bool reboot) {
                             ended.push_back({id, record, reboot});
                           }},
        shim);
    loop.on_turn_end([this] {
      EXPECT_TRUE(database->commit_turn());
      if (until && until()) loop.stop();
    });
  }
  // Fails after half a minute, so that a broken supervisor ends the test.
  void run_until(std::function<bool()> condition) {
    until = std::move(condition);
    const Loop::Timer limit = loop.after(30s, [this] {
      ADD_FAILURE() << "nothing happened in time";
      loop.stop();
    });
    loop.post([] {});
    loop.run();
  }
  void recover() {
    bool done = false;
    loop.post([&] { supervisor->recover([&] { done = true; }); });
    run_until([&] { return done; });
  }

  Loop loop;
  std::unique_ptr<Database> database;
  std::unique_ptr<Supervisor> supervisor;
  std::vector<AttemptId> running;
  std::vector<Ended> ended;
  std::function<bool()> until;
};

class SupervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "needs root";
    ASSERT_EQ(::access(shim_program().c_str(), X_OK), 0)
        << shim_program() << ": build loam-shim, or set LOAM_BIN";
    char name[] = "/tmp/loam-supervisor-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    context_.paths.state = folder_;
    context_.paths.database = folder_ + "/node.db";
    context_.paths.attempts = folder_ + "/attempts";
    ASSERT_TRUE(make_folders(context_.paths.attempts));
    ASSERT_TRUE(make_folders(folder_ + "/shared"));
    ASSERT_EQ(::chmod((folder_ + "/shared").c_str(), 0777), 0);
    context_.cgroups = sandbox::find_cgroup_parents("loam-test-" + std::to_string(::getpid()));
  }
  void TearDown() override {
    life_.reset();
    EXPECT_EQ(sandbox::list_cgroups(context_.cgroups), std::vector<std::string>{});
    sandbox::remove_cgroup_parents(context_.cgroups);
    EXPECT_TRUE(remove_tree(folder_));
  }
  NodeLife& life() {
    if (!life_) life_ = std::make_unique<NodeLife>(context_, shim_program());
    return *life_;
  }
  // As kill -9 would: nothing is told to anyone.
  void node_dies() { life_.reset(); }

  api::AttemptPlan plan(const std::string& command) const {
    api::AttemptPlan made;
    made.argv = {"/bin/sh", "-c", command};
    made.environment = {{"PATH", "/usr/bin:/bin"}};
    made.directory = "/";
    made.binds.push_back({.from = folder_ + "/shared", .to = "/tmp/shared", .writable = true});
    return made;
  }
  AttemptId start(const std::string& command, JobId job = 1) {
    AttemptId id = 0;
    life().loop.post([&] { id = life().supervisor->start(job, plan(command), {}); });
    life().run_until([&] { return id != 0; });
    return id;
  }
  void await_running() {
    life().run_until([this] { return !life().running.empty() || !life().ended.empty(); });
    ASSERT_FALSE(life().running.empty())
        << (life().ended.empty() ? "" : life().ended[0].record.error);
  }
  void await_end() {
    life().run_until([this] { return !life().ended.empty() && groups_gone(); });
  }
  bool groups_gone() const { return sandbox::list_cgroups(context_.cgroups).empty(); }
  std::string output(AttemptId id) {
    const auto text = read_file(life().supervisor->folder_of(id) + "/output/current.log");
    return text ? *text : text.error().text;
  }
  void age_boot(AttemptId id) {
    life().database->write("UPDATE attempts SET boot = 'another' WHERE id = ?", {id});
    ASSERT_TRUE(life().database->commit_turn());
  }
  // Of the host, by what only it has in its command line.
  static bool lives(const std::string& marker) {
    const auto names = list_folder("/proc");
    for (const std::string& name : *names)
      if (const auto line = read_file("/proc/" + name + "/cmdline");
          line && line->find(marker) != std::string::npos &&
          line->find("supervisor_test") == std::string::npos)
        return true;
    return false;
  }

  std::string folder_;
  NodeContext context_;
  std::unique_ptr<NodeLife> life_;
};

TEST_F(SupervisorTest, RunsAnAttemptAndRecordsItsExitOnce) {
  const AttemptId id = start("echo hello; exit 7");
  await_end();
  ASSERT_EQ(life().ended.size(), 1U);
  EXPECT_EQ(life().running, std::vector<AttemptId>{id});
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::exited) << life().ended[0].record.error;
  EXPECT_EQ(life().ended[0].record.code, 7);
  EXPECT_EQ(output(id), "hello\n");
  const auto view = life().supervisor->find(id);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->state, "ended");
  EXPECT_EQ(view->exit.code, 7);
  EXPECT_GE(view->started_ms, view->created_ms);
}

TEST_F(SupervisorTest, NumbersTheAttemptsOfAJob) {
  start("true", 5);
  await_end();
  life().ended.clear();
  start("true", 5);
  await_end();
  const auto views = life().supervisor->attempts_of(5);
  ASSERT_EQ(views.size(), 2U);
  EXPECT_EQ(views[0].number, 1);
  EXPECT_EQ(views[1].number, 2);
}

TEST_F(SupervisorTest, StopEndsAnAttemptAsWhatItWasStoppedFor) {
  const AttemptId id = start("exec sleep 600");
  await_running();
  life().loop.post([&] { life().supervisor->stop(id, api::Outcome::timed_out); });
  await_end();
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::timed_out);
}

TEST_F(SupervisorTest, StoppedBeforeItsShimIsThereItNeverStarts) {
  AttemptId id = 0;
  life().loop.post([&] {
    id = life().supervisor->start(1, plan("touch /tmp/never"), {},
                                  [](const std::string&) { return Result<void>(); });
    life().supervisor->stop(id, api::Outcome::cancelled);
  });
  await_end();
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::cancelled);
  EXPECT_FALSE(path_exists(life().supervisor->folder_of(id) + "/plan.json"));
}

TEST_F(SupervisorTest, AFailedPreparationIsAFailedStart) {
  life().loop.post([&] {
    life().supervisor->start(1, plan("true"), {}, [](const std::string& folder) -> Result<void> {
      EXPECT_TRUE(path_exists(folder));
      return fail(ErrorCode::full, "no space for the project's files");
    });
  });
  await_end();
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::failed_to_start);
  EXPECT_EQ(life().ended[0].record.error, "no space for the project's files");
}

TEST_F(SupervisorTest, AMissingShimIsAFailedStart) {
  life_ = std::make_unique<NodeLife>(context_, "/nowhere/loam-shim");
  start("true");
  await_end();
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::failed_to_start);
  EXPECT_NE(life().ended[0].record.error.find("/nowhere/loam-shim"), std::string::npos);
}

TEST_F(SupervisorTest, ANewNodeFindsTheLivingShimAndTheJobNeverNotices) {
  const std::string gate = folder_ + "/shared/gate";
  ASSERT_EQ(::mkfifo(gate.c_str(), 0666), 0);
  ASSERT_EQ(::chmod(gate.c_str(), 0666), 0);
  const AttemptId id = start("echo started; read line < /tmp/shared/gate; echo $line; exit 3");
  await_running();
  node_dies();
  life().recover();
  EXPECT_TRUE(life().ended.empty());
  EXPECT_EQ(life().supervisor->find(id)->state, "running");
  std::ofstream(gate) << "on we go\n";
  await_end();
  ASSERT_EQ(life().ended.size(), 1U);
  EXPECT_EQ(life().ended[0].record.code, 3);
  EXPECT_EQ(output(id), "started\non we go\n");
}

TEST_F(SupervisorTest, AnExitThatNobodySawIsFoundOnDiskAndCommittedOnce) {
  const AttemptId id = start("sleep 0.3; exit 4");
  await_running();
  const std::string folder = life().supervisor->folder_of(id);
  node_dies();
  // Its lock is free once the shim is gone.
  ASSERT_TRUE(await_lock(folder, 30'000));
  life().recover();
  ASSERT_EQ(life().ended.size(), 1U);
  EXPECT_EQ(life().ended[0].record.code, 4);
  node_dies();
  life().recover();
  EXPECT_TRUE(life().ended.empty());
}

TEST_F(SupervisorTest, AKilledShimLosesItsAttemptAndNothingOfItRemains) {
  const AttemptId id = start("sleep 98765 & exec sleep 98765");
  await_running();
  // The shim is the one process that has the attempt's folder in its command line.
  const auto names = list_folder("/proc");
  for (const std::string& name : *names)
    if (const auto line = read_file("/proc/" + name + "/cmdline");
        line && line->find(life().supervisor->folder_of(id)) != std::string::npos)
      ::kill(std::stoi(name), SIGKILL);
  await_end();
  ASSERT_EQ(life().ended.size(), 1U);
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::lost);
  EXPECT_FALSE(life().ended[0].reboot);
  EXPECT_FALSE(lives("98765"));
}

TEST_F(SupervisorTest, AnotherBootLosesWithoutLooking) {
  const AttemptId id = start("true");
  await_end();
  life().ended.clear();
  life().database->write("UPDATE attempts SET state = 'running' WHERE id = ?", {id});
  age_boot(id);
  node_dies();
  life().recover();
  ASSERT_EQ(life().ended.size(), 1U);
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::lost);  // although exit.json lies there
  EXPECT_TRUE(life().ended[0].reboot);
}

TEST_F(SupervisorTest, AStartThatCameNoFurtherThanItsCommitIsLost) {
  life().database->insert(
      "INSERT INTO attempts (job, number, state, boot, cgroup, created_ms) VALUES (1, 1, "
      "'starting', ?, ?, 0)",
      {boot_id(), sandbox::to_json(context_.cgroups).dump()});
  ASSERT_TRUE(life().database->commit_turn());
  node_dies();
  life().recover();
  ASSERT_EQ(life().ended.size(), 1U);
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::lost);
  EXPECT_FALSE(life().ended[0].reboot);
}

TEST_F(SupervisorTest, LeftoverGroupsGoAtTheStart) {
  ASSERT_TRUE(sandbox::create_cgroup(context_.cgroups, "4711", {}));
  life().recover();
  life().run_until([this] { return groups_gone(); });
}

TEST_F(SupervisorTest, KeepsTheFolderOfWhatHasNotEnded) {
  const AttemptId id = start("exec sleep 600");
  await_running();
  const auto refused = life().supervisor->remove_folder(id);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::busy);
  life().loop.post([&] { life().supervisor->kill(id); });
  await_end();
  EXPECT_TRUE(life().supervisor->remove_folder(id));
  EXPECT_FALSE(path_exists(life().supervisor->folder_of(id)));
}

TEST_F(SupervisorTest, HandsAClientsStreamToTheShim) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  Fd theirs(pair[0]), ours(pair[1]);
  AttemptId id = 0;
  life().loop.post([&] {
    api::AttemptPlan wanted = plan("cat");
    wanted.standard_input = true;
    id = life().supervisor->start(1, std::move(wanted), {});
    EXPECT_TRUE(life().supervisor->attach(id, std::move(theirs)));  // before the shim is there
  });
  const std::string sent = api::encode_frame(api::AttachFrame::input, "through the shim") +
                           api::encode_frame(api::AttachFrame::input, "");
  ASSERT_EQ(::write(ours.get(), sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
  await_end();
  EXPECT_EQ(life().ended[0].record.outcome, api::Outcome::exited) << life().ended[0].record.error;
  const auto got = read_fd(ours.get());
  ASSERT_TRUE(got);
  EXPECT_NE(got->find("through the shim"), std::string::npos);
  EXPECT_FALSE(life().supervisor->attach(id, std::move(ours)));  // ended
}

}  // namespace
}  // namespace loam::node
