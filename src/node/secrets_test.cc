#include "node/secrets.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/files.h"

namespace loam::node {
namespace {

class SecretsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-secrets-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(path_)); }
  std::string path_;
};

TEST_F(SecretsTest, KeptByUserAndRemoved) {
  Secrets secrets(path_ + "/secrets");
  ASSERT_TRUE(secrets.put(1000, "TOKEN", "hush"));
  EXPECT_EQ(secrets.names(1000), std::vector<std::string>{"TOKEN"});
  EXPECT_TRUE(secrets.names(1001).empty());
  EXPECT_FALSE(secrets.put(1000, "NO SPACE", "x"));
  EXPECT_FALSE(secrets.put(1000, "1ST", "x"));
  EXPECT_NE(secrets.put(1000, "LOAM_TOKEN", "x").error().text.find("Loam's own"), std::string::npos);
  EXPECT_NE(secrets.put(1000, "ZERO", std::string("a\0b", 3)).error().text.find("zero byte"), std::string::npos);
  EXPECT_FALSE(secrets.put(1000, "BIG", std::string(kSecretBytesMax + 1, 'x')));
  ASSERT_TRUE(secrets.remove(1000, "TOKEN"));
  EXPECT_EQ(secrets.remove(1000, "TOKEN").error().code, ErrorCode::not_found);
}

TEST_F(SecretsTest, SubmissionWinsOverTheKeptValue) {
  Secrets secrets(path_);
  ASSERT_TRUE(secrets.put(7, "A", "kept"));
  ASSERT_TRUE(secrets.put(7, "B", "kept"));
  const auto values =
      secrets.resolve(7, {"A", "B"}, Json::object({{"A", "given"}, {"C", "not wanted"}}));
  ASSERT_TRUE(values);
  EXPECT_EQ(*values, Json::object({{"A", "given"}, {"B", "kept"}}));
}

TEST_F(SecretsTest, AMissingValueIsNamedWithItsMend) {
  const auto values = Secrets(path_).resolve(7, {"NOWHERE"}, Json::object());
  ASSERT_FALSE(values);
  EXPECT_NE(values.error().text.find("NOWHERE"), std::string::npos);
  EXPECT_NE(values.error().text.find("loam secret set NOWHERE"), std::string::npos);
}

TEST_F(SecretsTest, FilesArePrivateAndGoWithTheJob) {
  Secrets secrets(path_ + "/secrets");
  const auto file = secrets.keep_for_job(12, Json::object({{"A", "hush"}}));
  ASSERT_TRUE(file);
  struct stat status {};
  ASSERT_EQ(::stat(file->c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat((path_ + "/secrets").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  EXPECT_EQ(secrets.file_of_job(12), *file);
  secrets.forget_job(12);
  EXPECT_EQ(secrets.file_of_job(12), "");
  EXPECT_EQ(*secrets.keep_for_job(13, Json::object()), "");
}

}  // namespace
}  // namespace loam::node
