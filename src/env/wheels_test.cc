#include "env/wheels.h"

#include <gtest/gtest.h>

#include "env/pip_settings.h"
#include "env/tool.h"

namespace loam::env {
namespace {

TEST(Requirements, TakesWheelsByNameAndAddress) {
  for (const char* line :
       {"numpy", "numpy==1.26.4", "torch >= 2, < 3", "requests[socks] ~= 2.31", "a [b, c_d]",
        "a; python_version < '3.9'", "pkg @ https://host.example/pkg-1.0-py3-none-any.whl",
        "--index-url https://index.example/simple",
        "--extra-index-url=https://index.example/simple", "--pre", "-f /opt/wheels"})
    EXPECT_TRUE(check_requirement(line)) << line << ": " << check_requirement(line).error().text;
}

// Each of these would run code of what is downloaded, or leave the lock's hands.
TEST(Requirements, RefusesWhatIsNoWheel) {
  for (const char* line :
       {"-e .", "-r other.txt", "-c limits.txt", "--no-binary :all:", "--config-settings x=y",
        "./folder", "/abs/folder", "git+https://host.example/repo",
        "pkg @ git+https://host.example/repo", "pkg @ https://host.example/pkg-1.0.tar.gz",
        "https://host.example/pkg.tar.gz", "a\nb", "", "a[b", "a[b/c]==1", "a]==1",
        "folder/setup.py", "--trusted-host x"})
    EXPECT_FALSE(check_requirement(line)) << line;
}

TEST(Requirements, RefusesCredentialsWithoutRepeatingThem) {
  const auto refused = check_requirement("--index-url https://ana:s3cret@index.example/simple");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text.find("s3cret"), std::string::npos);
  EXPECT_NE(refused.error().text.find(".netrc"), std::string::npos);
}

TEST(Requirements, ChecksWheelFiles) {
  EXPECT_TRUE(valid_wheel_file(
      "tokenizers-0.22.0-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"));
  EXPECT_TRUE(valid_wheel_file("torch-2.1+cpu-1-cp311-cp311-linux_x86_64.whl"));
  for (const char* file : {"a.whl", "../a-1-py3-none-any.whl", ".a-1-py3-none-any.whl",
                           "a-1-py3-none-any.zip", "a b-1-py3-none-any.whl"})
    EXPECT_FALSE(valid_wheel_file(file)) << file;
}

TEST(PipConf, FindsValuesInAnySection) {
  const char* text =
      "[global]\n# cert = /no\ncert = /ca.crt\nfind-links =\n    /a\n    /b\nindex-url: "
      "https://x\n[install]\nfind_links = /c /d\n";
  EXPECT_EQ(pip_conf_values(text, "cert"), (std::vector<std::string>{"/ca.crt"}));
  EXPECT_EQ(pip_conf_values(text, "find-links"),
            (std::vector<std::string>{"/a", "/b", "/c", "/d"}));
  EXPECT_TRUE(pip_conf_values(text, "proxy").empty());
}

TEST(Tools, KeepsTheLinesThatSayWhy) {
  EXPECT_EQ(condensed({"Get:1 x", "E: Unable to fetch", "I: done"}), "E: Unable to fetch");
  EXPECT_EQ(condensed({"one", "two"}), "one; two");
}

TEST(Tools, PassesLinesOnAndEndsWhenCancelled) {
  Context context;
  std::vector<std::string> lines;
  const auto ended =
      run_lines(context, {.argv = {"sh", "-c", "echo a; echo b >&2; printf 'c\\rd'; exit 3"}},
                [&](std::string_view line) { lines.emplace_back(line); });
  ASSERT_TRUE(ended);
  EXPECT_EQ(lines, (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_FALSE(ended->ok());
  context.cancelled = [] { return true; };
  const auto stopped = run_lines(context, {.argv = {"sleep", "1000"}}, nullptr);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
}

}  // namespace
}  // namespace loam::env
