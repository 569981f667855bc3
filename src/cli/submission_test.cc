#include "cli/submission.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/test_console.h"

namespace loam::cli {
namespace {

TEST(Submission, ProblemsOfTheNodeReadLikeOurOwn) {
  Written written;
  const auto body = Json::parse(R"({"error":{"code":"invalid","text":"x"},"problems":[
    {"line":5,"column":7,"key":"steps.a.resources.cpus","message":"asks for 64 CPUs; this machine has 2"}]})");
  EXPECT_EQ(report_refusal(written.console, *body, 422, "x/loam.yaml"), 2);
  EXPECT_EQ(written.stderr_text(),
            "x/loam.yaml:5:7: steps.a.resources.cpus: asks for 64 CPUs; this machine has 2\n");
}

TEST(Submission, CarriesTheFileSecretsAndTheWayToRegistries) {
  char pattern[] = "/tmp/loam-cli-XXXXXX";
  const std::string folder = ::mkdtemp(pattern);
  const std::string text =
      "name: s\nsecrets: [CLI_TEST_TOKEN, CLI_TEST_OTHER]\nsteps:\n  a: {run: 'true'}\n";
  ASSERT_TRUE(write_file_atomic(folder + "/my.yaml", text));
  ::setenv("CLI_TEST_TOKEN", "t", 1);
  ::setenv("PIP_INDEX_URL", "http://x", 1);
  Written written;
  const auto file = read_project_file(written.console, folder + "/my.yaml");
  ASSERT_TRUE(file) << written.stderr_text();
  const auto body = submission("up", &*file);
  ASSERT_TRUE(body);
  EXPECT_EQ((*body)["project"].as_string(), folder);
  EXPECT_EQ((*body)["file"].as_string(), "my.yaml");
  EXPECT_EQ((*body)["text"].as_string(), text);
  EXPECT_EQ((*body)["secrets"].dump(), R"({"CLI_TEST_TOKEN":"t"})");
  EXPECT_EQ((*body)["proxy_environment"]["PIP_INDEX_URL"].as_string(), "http://x");
  EXPECT_FALSE((*body)["proxy_environment"].has("PATH"));
  ::unsetenv("CLI_TEST_TOKEN");
  ::unsetenv("PIP_INDEX_URL");

  EXPECT_FALSE(read_project_file(written.console, folder + "/none.yaml"));
  EXPECT_FALSE(read_project_file(written.console, folder));
  ASSERT_EQ(::mkfifo((folder + "/fifo").c_str(), 0600), 0);
  EXPECT_FALSE(read_project_file(written.console, folder + "/fifo"))
      << "must not wait for a writer";
  (void)remove_tree(folder);
}

}  // namespace
}  // namespace loam::cli
