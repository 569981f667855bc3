#include "node/run_tables.h"

#include "node/database_fixture.h"
#include "node/models.h"

namespace loam::node {
namespace {

class TablesTest : public DatabaseTest {
 protected:
  void TearDown() override {
    if (database_) {
      EXPECT_TRUE(database_->commit_turn());
    }
    DatabaseTest::TearDown();
  }
};

RunRow run_of(std::uint32_t uid, const std::string& folder) {
  RunRow run;
  run.uid = uid;
  run.folder = folder;
  run.project = "digits";
  run.options = Json::object({{"force", true}});
  run.data = Json::object({{"d", Json::object({{"digest", "x"}})}});
  run.endpoint = "127.0.0.1:8000";
  run.created_ms = 5;
  return run;
}

TEST_F(TablesTest, RowsComeBackWhole) {
  RunTables tables(*database_);
  RunRow run = run_of(1000, "/p");
  run.id = tables.insert(run);
  run.state = "running";
  tables.save(run);
  const auto read = tables.run(run.id);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->state, "running");
  EXPECT_EQ(read->options, run.options);
  EXPECT_EQ(read->data, run.data);
  EXPECT_EQ(read->endpoint, run.endpoint);
  JobRow job;
  job.run = run.id;
  job.name = "train";
  job.kind = "step";
  job.cancel = true;
  job.key = Json::object({{"command", "x"}});
  job.lost_boot = "b";
  job.ended_ms = 99;
  job.id = tables.insert(job);
  const auto jobs = tables.jobs_of(run.id);
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_TRUE(jobs[0].cancel);
  EXPECT_EQ(jobs[0].key, job.key);
  EXPECT_EQ(jobs[0].lost_boot, "b");
  EXPECT_EQ(jobs[0].ended_ms, 99);
  tables.remove_run(run.id);
  EXPECT_FALSE(tables.job(job.id));
}

TEST_F(TablesTest, LastSuccessIsOfThisUserFolderAndStep) {
  RunTables tables(*database_);
  const auto add = [&](std::uint32_t uid, const std::string& folder, const std::string& step,
                       const std::string& state) {
    JobRow job;
    job.run = tables.insert(run_of(uid, folder));
    job.kind = "step";
    job.name = step;
    job.state = state;
    return tables.insert(job);
  };
  const RunRow mine = run_of(1000, "/p");
  EXPECT_FALSE(tables.last_success(mine, "train"));
  add(1000, "/p", "train", "succeeded");
  const JobId newest = add(1000, "/p", "train", "succeeded");
  add(1000, "/p", "train", "failed");
  add(1000, "/p", "train", "unchanged");
  add(1001, "/p", "train", "succeeded");
  add(1000, "/q", "train", "succeeded");
  add(1000, "/p", "other", "succeeded");
  ASSERT_TRUE(tables.last_success(mine, "train"));
  EXPECT_EQ(tables.last_success(mine, "train")->id, newest);
}

TEST_F(TablesTest, TasksOfASweepAreApartFromTheRunsParts) {
  RunTables tables(*database_);
  JobRow sweep;
  sweep.run = tables.insert(run_of(1000, "/p"));
  sweep.kind = "step";
  sweep.name = "train";
  sweep.state = "running";
  sweep.tasks = 3;
  sweep.id = tables.insert(sweep);
  EXPECT_FALSE(tables.first_failed(sweep.id));
  for (const char* state : {"succeeded", "failed", "failed"}) {
    JobRow task = sweep;
    task.tasks = 0;
    task.sweep = sweep.id;
    task.task = static_cast<std::int64_t>(tables.tasks_of(sweep.id).size()) + 1;
    task.step = "train";
    task.name = "train." + std::to_string(task.task);
    task.state = state;
    task.params = Json::object({{"lr", 0.5}});
    task.metrics = Json::object({{"loss", Json::object({{"count", 1}, {"last", 2}})}});
    tables.insert(task);
  }
  const auto parts = tables.parts_of(sweep.run);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].id, sweep.id);
  EXPECT_EQ(parts[0].tasks, 3);
  const auto tasks = tables.tasks_of(sweep.id);
  ASSERT_EQ(tasks.size(), 3u);
  EXPECT_EQ(tasks[2].task, 3);
  EXPECT_EQ(tasks[2].step_name(), "train");
  EXPECT_EQ(tasks[2].params["lr"].dump(), "0.5");
  EXPECT_EQ(tasks[2].metrics["loss"]["last"].as_int(), 2);
  EXPECT_FALSE(tables.has_open_task(sweep.id));
  JobRow open = tasks[0];
  open.state = "running";
  tables.save(open);
  EXPECT_TRUE(tables.has_open_task(sweep.id));
  EXPECT_FALSE(tables.has_open_task(sweep.id + 1));
  tables.save(tasks[0]);
  // The question comes after each of a sweep's ends: by an index, not by looking through its tasks.
  const auto how = database_->query(std::string("EXPLAIN QUERY PLAN SELECT 1 FROM jobs WHERE sweep=? AND sweep<>0 AND kind='step' AND ") + kOpenJob + " LIMIT 1", {sweep.id});
  EXPECT_NE(how[0].text(3).find("jobs_open_tasks"), std::string::npos) << how[0].text(3);
  EXPECT_EQ(tables.task_states(sweep.id),
            (std::map<std::string, std::int64_t>{{"succeeded", 1}, {"failed", 2}}));
  ASSERT_TRUE(tables.first_failed(sweep.id));
  EXPECT_EQ(tables.first_failed(sweep.id)->name, "train.2");
  EXPECT_EQ(tables.jobs_of(sweep.run).size(), 4u);
}

TEST_F(TablesTest, VersionsAreNeverGivenTwice) {
  Models models(*database_);
  ModelVersion version;
  version.uid = 1000;
  version.name = "digits";
  version.version = models.next_version(1000, "digits");
  EXPECT_EQ(version.version, 1);
  models.add(version);
  version.version = models.next_version(1000, "digits");
  models.add(version);
  models.remove(version);
  EXPECT_EQ(models.next_version(1000, "digits"), 3);
  EXPECT_EQ(models.next_version(1001, "digits"), 1);
  EXPECT_EQ(models.find(1000, {"digits", std::nullopt})->version, 1);
  EXPECT_FALSE(models.find(1000, {"digits", 2}));
  EXPECT_FALSE(models.find(1001, {"digits", std::nullopt}));
}

TEST(ModelName, ParsedAndRefused) {
  EXPECT_EQ(*parse_model_name("digits@3")->version, 3);
  EXPECT_FALSE(parse_model_name("digits")->version);
  for (const char* wrong :
       {"", "@3", "digits@", "digits@0", "digits@x", "digits@3x", "a/b", "req-x", "-a", "a b"})
    EXPECT_FALSE(parse_model_name(wrong)) << wrong;
}

}  // namespace
}  // namespace loam::node
