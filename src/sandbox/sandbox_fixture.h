// For the tests of the sandbox: starts one, lets a script run in it, collects what it wrote and how
// it ended.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "base/files.h"
#include "base/process.h"
#include "sandbox/init.h"
#include "sandbox/sandbox.h"

namespace loam::sandbox {

inline constexpr std::uint32_t kTestId = 65'533;  // owns nothing on the host

struct Ran {
  std::string output;  // both streams
  std::string report;  // kStartedMark, or what failed before the exec
  int status = -1;     // of the user's process, as waitpid's
  std::vector<Missing> missing;

  bool started() const { return report == std::string(1, kStartedMark); }
};

inline Spec shell_spec(const std::string& script) {
  Spec spec;
  spec.argv = {"/bin/sh", "-c", script};
  spec.environment = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}};
  spec.ids = {.uid = kTestId, .gid = kTestId, .groups = {}};
  spec.shm_bytes = 1u << 20;
  return spec;
}

inline Spec python_spec(const std::string& script) {
  Spec spec = shell_spec("");
  spec.argv = {"/usr/bin/python3", "-c", script};
  return spec;
}

// Calls a system call by number and prints its name and errno.
inline constexpr const char* kCallPrelude =
    "import ctypes\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(name, number, *arguments):\n"
    "  result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])\n"
    "  print(name, ctypes.get_errno() if result == -1 else 0)\n";

inline std::string call_line(const char* name, long number, const std::string& arguments = "0,0,0,0,0") {
  return std::string("call('") + name + "'," + std::to_string(number) + "," + arguments + ")\n";
}

inline Ran run(const Spec& spec) {
  Ran ran;
  auto sandbox = start_sandbox(spec);
  if (!sandbox) {
    ran.report = sandbox.error().text;
    return ran;
  }
  ran.missing = sandbox->missing;
  const ControlPacket go{.kind = Control::go};
  (void)!::send(sandbox->control.get(), &go, sizeof go, MSG_NOSIGNAL);
  sandbox->input.reset();
  ran.report = read_fd(sandbox->report.get()).value_or("");
  ran.output = read_fd(sandbox->output.get()).value_or("");
  InitPacket packet;
  if (::recv(sandbox->control.get(), &packet, sizeof packet, 0) == sizeof packet)
    ran.status = packet.status;
  (void)sandbox->init.wait();
  return ran;
}

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "run as root: a guard that was not tried is not there";
    char path[] = "/tmp/loam-sandbox-test.XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    folder_ = path;
    ASSERT_EQ(::chmod(path, 0755), 0);
  }
  void TearDown() override {
    if (cgroup_.any()) {
      EXPECT_TRUE(kill_cgroup(cgroup_, 5'000).has_value());
      EXPECT_TRUE(remove_cgroup(cgroup_).has_value());
    }
    remove_cgroup_parents(parents_);
    if (folder_.empty()) return;
    EXPECT_TRUE(remove_tree(folder_).has_value()) << "a mount was left behind?";
  }
  // A group as an attempt's, gone with the test.
  void make_group(const CgroupLimits& limits) {
    parents_ = find_cgroup_parents("loam-test-" + std::to_string(::getpid()));
    auto made = create_cgroup(parents_, "one", limits);
    ASSERT_TRUE(made.has_value()) << made.error().text;
    cgroup_ = *made;
  }
  std::string make_folder(const std::string& name, std::uint32_t owner, mode_t mode = 0755) {
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(make_folders(path, 0755).has_value());
    EXPECT_EQ(::chown(path.c_str(), owner, owner), 0);
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  std::string write(const std::string& name, const std::string& content, mode_t mode = 0644) {
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(write_file_atomic(path, content, {.mode = mode, .durable = false}).has_value());
    return path;
  }

  std::string folder_;
  CgroupParents parents_;
  CgroupPaths cgroup_;
};

}  // namespace loam::sandbox
