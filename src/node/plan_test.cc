#include "node/plan.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "node/device_look.h"

namespace loam::node {
namespace {

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() {
    context_.paths.state = "/state";
    context_.paths.runtime = "/run/loam";
    context_.paths.homes = "/state/homes";
    facts_.node = &context_;
    facts_.host = {.resolv_conf = "nameserver 1.2.3.4\n",
                   .resolv_conf_path = "/etc/resolv.conf",
                   .hosts = "127.0.0.1 localhost\n",
                   .passwd = "root:x:0:0::/root:/bin/sh\n",
                   .group = "root:x:0:\n",
                   .certificates = true};
    facts_.share_folder = "/usr/share/loam";
    facts_.program_folder = "/usr/bin";
    run_.id = 17;
    run_.project = "digits";
    run_.folder = "/home/ana/digits";
    run_.job_uid = run_.reader_uid = 1000;
    run_.job_gid = 1000;
    run_.job_user = "ana";
    job_.id = 5;
    job_.run = 17;
    job_.name = "train";
    job_.cpu_milli = 2500;
    job_.memory_bytes = 1 << 30;
    project_.name = "digits";
    project_.vars = {{"MINE", "1"}, {"LOAM_RUN", "forged"}, {"PYTHONPATH", "/project/lib"}};
    spec::DataSource data;
    data.name = "d";
    data.files = "data/x-*.csv";
    project_.data.push_back(data);
    step_.name = "train";
    step_.run = {{"sh", "-c", "x"}, "x"};
    step_.params = Json::object({{"lr", 0.1}});
    step_.output = spec::Output{"digits", "model"};
    inputs_.run = &run_;
    inputs_.job = &job_;
    inputs_.project = &project_;
    inputs_.number = 2;
    inputs_.work = "/state/outputs/5-2";
    inputs_.snapshot = {"/state/store/trees/abc", api::Owner::root_is_user};
  }

  static std::string variable(const api::AttemptPlan& plan, const std::string& name) {
    for (const auto& [key, value] : plan.environment)
      if (key == name) return value;
    return "(none)";
  }
  static const api::BindPlan* bind(const api::AttemptPlan& plan, const std::string& to) {
    const auto found = std::find_if(plan.binds.begin(), plan.binds.end(),
                                    [&](const auto& b) { return b.to == to; });
    return found == plan.binds.end() ? nullptr : &*found;
  }
  static std::string file(const api::AttemptPlan& plan, const std::string& path) {
    for (const auto& f : plan.files)
      if (f.path == path) return f.content;
    return "(none)";
  }

  NodeContext context_;
  PlanFacts facts_;
  RunRow run_;
  JobRow job_;
  spec::Project project_;
  spec::Step step_;
  PlanInputs inputs_;
};

TEST_F(PlanTest, LimitsOfAGangAreOfAllItsRanks) {
  job_.request = Json::object({{"ranks", 3}});
  const auto plan = plan_step(facts_, inputs_, step_);
  EXPECT_EQ(plan.ranks.size(), 3u);
  EXPECT_EQ(plan.cpu_milli, 7500u);
  EXPECT_EQ(plan.memory_bytes, 3u << 30);
  EXPECT_EQ(plan.shm_bytes, 3u << 30);
  EXPECT_EQ(variable(plan, "OMP_NUM_THREADS"), "2");  // of one rank
}

TEST_F(PlanTest, WhatIsNoGangHasNoRanks) {
  EXPECT_TRUE(plan_step(facts_, inputs_, step_).ranks.empty());
}

TEST(Placements, ComeBackAsTheyWere) {
  const sched::RankPlacement one{.cpus = {2, 3}, .numa_nodes = {0}, .devices = {{"gpu-1", 1, 2}}};
  const sched::RankPlacement two{.cpus = {0, 1}, .numa_nodes = {0}, .devices = {{"gpu-0", 1, 1}}};
  for (const sched::Placement& placement :
       {sched::Placement{{one}}, sched::Placement{{one, two}}})
    EXPECT_EQ(placement_from(to_json(placement)), placement);
  EXPECT_TRUE(placement_from({}).ranks.empty());
  const Json all = to_json(sched::Placement{{one, two}});
  EXPECT_EQ(all["cpus"].dump(), "[0,1,2,3]");
  EXPECT_EQ(all["numa"].dump(), "[0]");
  EXPECT_EQ(all["devices"].size(), 2u);
}

TEST(Gangs, EachRankIsToldOfItsDevicesAlone) {
  const auto unit = [](const std::string& id) {
    return GrantedUnit{.unit = {.id = id, .kind = "seat", .model = {}, .nodes = {}, .common = {}}};
  };
  DeviceGrant grant{.units = {unit("seat-0"), unit("seat-1")}, .cpus = {0, 1}, .memory_nodes = {}};
  grant.ranks.push_back({.units = {unit("seat-0")}, .cpus = {0}, .memory_nodes = {}});
  grant.ranks.push_back({.units = {unit("seat-1")}, .cpus = {1}, .memory_nodes = {}});
  api::AttemptPlan plan;
  plan.ranks.resize(2);
  char folder[] = "/tmp/loam-locks-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  EXPECT_FALSE(give_devices(grant, {.lock_folder = folder}, plan).has_value());
  EXPECT_EQ(plan.device_locks.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const std::string id = "seat-" + std::to_string(i);
    ASSERT_EQ(plan.ranks[i].environment.size(), 1u);
    EXPECT_EQ(plan.ranks[i].environment[0].second, R"({"seat":[{"id":")" + id + R"(","nodes":[]}]})");
    EXPECT_EQ(plan.ranks[i].cpus, std::vector<std::uint32_t>{static_cast<std::uint32_t>(i)});
  }
  EXPECT_TRUE(remove_tree(folder).has_value());
}

TEST_F(PlanTest, StepOnTheHost) {
  const auto plan = plan_step(facts_, inputs_, step_);
  EXPECT_EQ(plan.uid, 1000u);
  EXPECT_EQ(plan.root, api::RootKind::host);
  EXPECT_EQ(plan.root_masks, (std::vector<std::string>{"/state", "/run/loam"}));
  EXPECT_EQ(plan.project_owner, api::Owner::root_is_user);
  EXPECT_EQ(variable(plan, "LOAM_PARAMS"), "{\"lr\":0.1}");
  EXPECT_EQ(variable(plan, "LOAM_OUTPUT"), "/project/model");
  EXPECT_EQ(variable(plan, "LOAM_ATTEMPT"), "2");
  EXPECT_EQ(variable(plan, "LOAM_RUN"), "17");  // vars cannot forge what Loam says
  EXPECT_EQ(variable(plan, "MINE"), "1");
  EXPECT_EQ(variable(plan, "PYTHONPATH"), "/loam/python:/project/lib");
  EXPECT_EQ(variable(plan, "OMP_NUM_THREADS"), "2");
  ASSERT_NE(bind(plan, "/project/model"), nullptr);
  EXPECT_TRUE(bind(plan, "/project/model")->writable);
  ASSERT_NE(bind(plan, "/project/data"), nullptr);
  EXPECT_FALSE(bind(plan, "/project/data")->writable);
  EXPECT_TRUE(bind(plan, "/project/data")->opened_as_user);
  EXPECT_NE(file(plan, "/etc/passwd").find("ana:x:1000:1000:"), std::string::npos);
  EXPECT_EQ(file(plan, "/etc/resolv.conf"), "(none)");
}

TEST_F(PlanTest, CheckpointsAreBoundAndNamed) {
  step_.checkpoint = spec::Checkpoint{.path = "ck", .resume = {"--from={path}", "--again"}};
  inputs_.checkpoint_folder = "/state/checkpoints/5";
  const auto first = plan_step(facts_, inputs_, step_);
  ASSERT_NE(bind(first, "/project/ck"), nullptr);
  EXPECT_EQ(bind(first, "/project/ck")->from, "/state/checkpoints/5/files");
  EXPECT_TRUE(bind(first, "/project/ck")->writable);
  EXPECT_EQ(variable(first, "LOAM_CHECKPOINT_FOLDER"), "/project/ck");
  EXPECT_EQ(variable(first, "LOAM_CHECKPOINT_KEEP"), "3");
  EXPECT_EQ(variable(first, "LOAM_CHECKPOINT"), "(none)");
  EXPECT_EQ(first.argv, step_.run.argv);  // nothing to resume from
  EXPECT_EQ(first.checkpoint_signal, SIGUSR1);
  EXPECT_EQ(first.checkpoint_grace_ms, 30'000);
  ASSERT_NE(bind(first, "/project/model"), nullptr);

  inputs_.resume_from = "checkpoint-3 'a'";
  step_.run = {{"python3", "train.py"}, "[]"};
  const auto list = plan_step(facts_, inputs_, step_);
  EXPECT_EQ(variable(list, "LOAM_CHECKPOINT"), "/project/ck/checkpoint-3 'a'");
  EXPECT_EQ(list.argv,
            (std::vector<std::string>{"python3", "train.py", "--from=/project/ck/checkpoint-3 'a'",
                                      "--again"}));
  step_.run = {{"sh", "-c", "a\n  b \\\n c\n"}, "a\n  b \\\n c\n", true};
  EXPECT_EQ(plan_step(facts_, inputs_, step_).argv[2],
            "a\n  b \\\n c '--from=/project/ck/checkpoint-3 '\\''a'\\''' '--again'");
}

// An unchanged Hugging Face script has one output_dir for both.
TEST_F(PlanTest, CheckpointsAndOutputMayBeOneFolder) {
  step_.checkpoint = spec::Checkpoint{.path = "model"};
  inputs_.checkpoint_folder = "/state/checkpoints/5";
  const auto plan = plan_step(facts_, inputs_, step_);
  EXPECT_EQ(bind(plan, "/project/model")->from, "/state/checkpoints/5/files");
  EXPECT_EQ(variable(plan, "LOAM_OUTPUT"), "/project/model");
}

TEST_F(PlanTest, StepInATree) {
  inputs_.env_tree = "/state/store/trees/env";
  inputs_.upstream = {{"made", {"/state/store/trees/up", api::Owner::as_is}}};
  const auto plan = plan_step(facts_, inputs_, step_);
  EXPECT_EQ(plan.root, api::RootKind::tree);
  EXPECT_EQ(plan.root_tree, "/state/store/trees/env");
  EXPECT_EQ(file(plan, "/etc/resolv.conf"), "nameserver 1.2.3.4\n");
  EXPECT_NE(bind(plan, "/etc/ssl/certs"), nullptr);
  ASSERT_NE(bind(plan, "/project/made"), nullptr);
  EXPECT_FALSE(bind(plan, "/project/made")->writable);
  inputs_.env_has_certificates = true;
  EXPECT_EQ(bind(plan_step(facts_, inputs_, step_), "/etc/ssl/certs"), nullptr);
}

TEST_F(PlanTest, PatternsOfTheTopFolderBindFileByFile) {
  project_.data[0].files = "*.csv";
  run_.data = Json::object({{"d", Json::object({{"files", Json::array({"a.csv", "b.csv"})}})}});
  const auto plan = plan_step(facts_, inputs_, step_);
  EXPECT_NE(bind(plan, "/project/a.csv"), nullptr);
  EXPECT_NE(bind(plan, "/project/b.csv"), nullptr);
  EXPECT_EQ(bind(plan, "/project/"), nullptr);
}

TEST_F(PlanTest, MountsOfRootAreShownAsTheUsers) {
  project_.mounts = {{"/srv/out", "/out", spec::MountMode::rw, {}},
                     {"/srv/in", "/in", spec::MountMode::ro, {}}};
  inputs_.root_owned_mounts = {"/srv/out"};
  const auto plan = plan_step(facts_, inputs_, step_);
  EXPECT_EQ(bind(plan, "/out")->owner, api::Owner::root_is_user);
  EXPECT_TRUE(bind(plan, "/out")->writable);
  EXPECT_EQ(bind(plan, "/in")->owner, api::Owner::as_is);
  EXPECT_FALSE(bind(plan, "/in")->writable);
}

TEST_F(PlanTest, ReplicaSpeaksThroughItsChannel) {
  spec::Service service;
  service.name = "digits";
  service.handler_file = "serve.py";
  service.handler_function = "predict";
  const auto plan = plan_replica(facts_, inputs_, service,
                                 {"/state/store/trees/m", api::Owner::as_is}, "/state/e/1");
  EXPECT_EQ(plan.network, api::Network::none);
  EXPECT_EQ(variable(plan, "LOAM_HANDLER"), "serve.py:predict");
  EXPECT_EQ(variable(plan, "LOAM_CHANNEL"), "/loam/channel/channel.sock");
  EXPECT_FALSE(bind(plan, "/loam/model")->writable);
  EXPECT_TRUE(bind(plan, "/loam/channel")->writable);
}

TEST_F(PlanTest, GatewaySeesItsEndpointAndNoSecrets) {
  inputs_.secrets_file = "/state/secrets/job-5";
  const auto plan = plan_gateway(facts_, inputs_, "/state/endpoints/1");
  EXPECT_EQ(plan.argv[0], "/loam/bin/loam-gateway");
  EXPECT_EQ(bind(plan, "/loam/bin/loam-gateway")->from, "/usr/bin/loam-gateway");
  EXPECT_FALSE(bind(plan, "/loam/endpoint/plan")->writable);
  EXPECT_TRUE(bind(plan, "/loam/endpoint/requests")->writable);
  EXPECT_TRUE(plan.secrets_file.empty());
  EXPECT_TRUE(plan.project_tree.empty());
}

}  // namespace
}  // namespace loam::node
