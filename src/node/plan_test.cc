#include "node/plan.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"

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

TEST(WorkFolders, LeftoversOfAnUnrecordedAttemptGo) {
  char name[] = "/tmp/loam-work-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string work = std::string(name) + "/5-1";
  ASSERT_TRUE(make_work_folders(work, ::getuid(), ::getgid()));
  ASSERT_TRUE(write_file_atomic(work + "/output/half", "x"));
  ASSERT_TRUE(make_work_folders(work, ::getuid(), ::getgid()));
  EXPECT_FALSE(path_exists(work + "/output/half"));
  struct stat status {};
  ASSERT_EQ(::stat((work + "/output").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  ASSERT_TRUE(remove_tree(name));
}

}  // namespace
}  // namespace loam::node
