#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/files.h"
#include "base/sha256.h"

namespace loam {
namespace {

TEST(Process, CollectsBothStreamsAndTheStatus) {
  const auto output = run_collect({.argv = {"sh", "-c", "echo out; echo err >&2; exit 3"}});
  ASSERT_TRUE(output);
  EXPECT_EQ(output->standard_output, "out\n");
  EXPECT_EQ(output->standard_error, "err\n");
  EXPECT_EQ(describe_status(output->status), "exit status 3");
}

TEST(Process, AMissingProgramIsAnErrorOfSpawn) {
  const auto child = spawn({.argv = {"/no/such/program"}});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, ErrorCode::not_found);
}

TEST(Process, InheritsOnlyWhatIsNamed) {
  const int leaked = ::open("/dev/null", O_RDONLY);  // no O_CLOEXEC on purpose
  auto pipe = make_pipe();
  const auto output =
      run_collect({.argv = {"ls", "/proc/self/fd"}, .descriptors = {{pipe->write_end.get(), 7}}});
  ::close(leaked);
  EXPECT_EQ(output->standard_output, "0\n1\n2\n3\n7\n") << "3 is what ls itself looks through";
}

TEST(Process, AChildThatChangesItsIdsLeavesOursAsTheyAre) {
  ASSERT_EQ(::geteuid(), 0u) << "needs root";
  ASSERT_EQ(::prctl(PR_SET_DUMPABLE, 1), 0);
  const auto output = run_collect({.argv = {"id", "-u"}, .before_exec = [] { return ::setresuid(65534, 65534, 65534); }});
  EXPECT_EQ(output->standard_output, "65534\n");
  EXPECT_EQ(::prctl(PR_GET_DUMPABLE), 1);
}

TEST(Process, AHandleThatDiesTakesItsProcessAlong) {
  pid_t pid = 0;
  {
    auto child = spawn({.argv = {"sleep", "1000"}});
    ASSERT_TRUE(child);
    pid = child->pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(Files, AtomicWriteReplacesAndReadsBack) {
  char folder[] = "/tmp/loam-files-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/a";
  ASSERT_TRUE(write_file_atomic(path, "one"));
  ASSERT_TRUE(write_file_atomic(path, "two"));
  EXPECT_EQ(*read_file(path), "two");
  EXPECT_EQ(read_file(path, 2).error().code, ErrorCode::too_large);
  EXPECT_EQ(list_folder(folder)->size(), 1u);
  EXPECT_FALSE(write_file_atomic(std::string(folder) + "/no/such/folder", "x"));
  ASSERT_TRUE(make_folders(std::string(folder) + "/deep/er/still"));
  ASSERT_EQ(::symlink("/etc", (std::string(folder) + "/deep/link").c_str()), 0);
  ASSERT_TRUE(remove_tree(folder));
  EXPECT_FALSE(path_exists(folder));
  EXPECT_TRUE(path_exists("/etc/passwd"));
}

TEST(Digests, KnownAnswers) {
  EXPECT_EQ(sha256_of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_TRUE(Digest::parse(sha256_of("").text()));
  EXPECT_FALSE(Digest::parse("sha256:12"));
  const std::string check = "123456789";
  EXPECT_EQ(crc32c(std::as_bytes(std::span(check.data(), check.size()))), 0xE3069283u);
}

}  // namespace
}  // namespace loam
