#include "sandbox/device_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

class DeviceLockTest : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    locks_ = folder_ + "/locks";
    ASSERT_TRUE(make_lock_folder(locks_));
  }
  void TearDown() override {
    if (holder_ > 0) end_holder();
    SandboxTest::TearDown();
  }
  Result<std::vector<Fd>> take(const DeviceLock& lock, const std::string& words = "attempt 7") {
    return take_device_lock(locks_, lock, {.words = words, .cgroup = ""}, 0);
  }
  // A process that has it until it is told otherwise.
  void hold(const DeviceLock& lock, const LockOwner& owner) {
    auto ready = make_pipe();
    ASSERT_TRUE(ready);
    holder_ = ::fork();
    if (holder_ == 0) {
      const auto held = take_device_lock(locks_, lock, owner, 0);
      (void)write_full(ready->write_end.get(), held ? "+" : held.error().text);
      for (;;) ::pause();
    }
    char word = 0;
    ASSERT_EQ(::read(ready->read_end.get(), &word, 1), 1);
    ASSERT_EQ(word, '+');
  }
  void end_holder() {
    ::kill(holder_, SIGKILL);
    ::waitpid(std::exchange(holder_, 0), nullptr, 0);
  }

  const DeviceLock camera_{.device = "camera-0", .names = {"char-81-0"}};
  std::string locks_;
  pid_t holder_ = 0;
};

TEST_F(DeviceLockTest, HasOneHolderWhoIsNamed) {
  hold(camera_, {.words = "attempt 7 of alice's node (/home/alice/state)", .cgroup = ""});
  const auto refused = take(camera_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::busy);
  EXPECT_EQ(refused.error().text,
            "camera-0 is held by attempt 7 of alice's node (/home/alice/state), process " +
                std::to_string(holder_));
  const auto holder = lock_holder(locks_, camera_);
  ASSERT_TRUE(holder);
  EXPECT_EQ(holder->pid, holder_);
  end_holder();
  EXPECT_FALSE(lock_holder(locks_, camera_));
  EXPECT_TRUE(take(camera_));
}

TEST_F(DeviceLockTest, SharersHoldItTogetherAndKeepOthersOut) {
  DeviceLock shared = camera_;
  shared.shared = true;
  const auto one = take(shared), two = take(shared);
  EXPECT_TRUE(one && two);
  EXPECT_FALSE(take(camera_));
}

TEST_F(DeviceLockTest, PartsAreAnyThatAreFree) {
  const DeviceLock half{.device = "GPU-1", .names = {"p0", "p1", "p2", "p3"}, .count = 2};
  const auto one = take(half), two = take(half);
  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->size(), 2U);
  EXPECT_FALSE(take(half));
  EXPECT_FALSE(take({.device = "GPU-1", .names = {"p3"}}));
}

TEST_F(DeviceLockTest, WhatFailsHoldsNothing) {
  hold({.device = "x", .names = {"p1"}}, {});
  const DeviceLock both{.device = "GPU-1", .names = {"p0", "p1"}, .count = 2};
  EXPECT_FALSE(take(both));
  EXPECT_FALSE(lock_holder(locks_, {.device = "x", .names = {"p0"}}));
  EXPECT_FALSE(lock_holder(locks_ + "/nowhere", camera_));
}

// A holder's process can be gone before the job's last one is.
TEST_F(DeviceLockTest, WaitsForWhatTheLastHolderLeft) {
  make_group({});
  ASSERT_FALSE(cgroup_.v2.empty());
  auto left = start_sandbox([&] {
    Spec spec = shell_spec("exec sleep 1000");
    spec.cgroup = cgroup_;
    return spec;
  }());
  ASSERT_TRUE(left);
  hold(camera_, {.words = "attempt 7", .cgroup = cgroup_.v2});
  end_holder();
  const auto refused = take(camera_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "camera-0 is held by what is left of attempt 7");
  (void)left->init.signal(SIGKILL);
  (void)left->init.wait();
  EXPECT_TRUE(take_device_lock(locks_, camera_, {}, 5'000));
}

TEST_F(DeviceLockTest, AStrangersLockIsTheStrangersWhateverTheFileSays) {
  { ASSERT_TRUE(take(camera_, "attempt 7")); }
  const std::string path = locks_ + "/char-81-0";
  auto ready = make_pipe();
  holder_ = ::fork();
  if (holder_ == 0) {
    const Fd file(::open(path.c_str(), O_RDONLY));
    (void)::flock(file.get(), LOCK_EX);
    (void)write_full(ready->write_end.get(), "+");
    for (;;) ::pause();
  }
  char word = 0;
  ASSERT_EQ(::read(ready->read_end.get(), &word, 1), 1);
  EXPECT_EQ(take(camera_).error().text,
            "camera-0 is held by process " + std::to_string(holder_));
}

TEST_F(DeviceLockTest, ForeignContentIsNoHarm) {
  const std::string path = locks_ + "/char-81-0";
  for (const std::string& content :
       {std::string(10'000, '['), std::string("\x00\xff", 2), std::string("{\"cgroup\":7}"),
        std::string("{\"cgroup\":\"/etc\",\"words\":\"\"}"),
        std::string("{\"cgroup\":\"/sys/fs/cgroup/../../../etc\"}")}) {
    ASSERT_TRUE(write_file_atomic(path, content, {.mode = 0666, .durable = false}));
    EXPECT_TRUE(take(camera_)) << content.substr(0, 40);
  }
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", path.c_str()), 0);
  EXPECT_FALSE(take(camera_));
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_EQ(::mkfifo(path.c_str(), 0666), 0);
  EXPECT_EQ(take(camera_).error().code, ErrorCode::invalid);
}

TEST_F(DeviceLockTest, ASecondNameOfAFileIsNoLock) {
  const std::string victim = write("victim", "whole");
  ASSERT_EQ(::link(victim.c_str(), (locks_ + "/char-81-0").c_str()), 0);
  const auto refused = take(camera_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid);
  EXPECT_EQ(read_file(victim).value(), "whole");
}

TEST_F(DeviceLockTest, TheFolderIsEveryonesAndAUsersBecomesTheSystems) {
  struct stat status {};
  ASSERT_EQ(::stat(locks_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 01777U);
  const std::string users = make_folder("users", kTestId, 0755);
  ASSERT_TRUE(make_lock_folder(users));
  ASSERT_EQ(::stat(users.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  EXPECT_EQ(status.st_mode & 07777, 01777U);
  // A file that a user owns could be removed under a holder.
  write("users/char-81-0", "", 0666);
  ASSERT_EQ(::chown((users + "/char-81-0").c_str(), kTestId, kTestId), 0);
  ASSERT_TRUE(take_device_lock(users, camera_, {}, 0));
  ASSERT_EQ(::stat((users + "/char-81-0").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  EXPECT_NE(make_lock_folder("/proc/nowhere").error().text.find("mend: sudo install -d -m 1777"),
            std::string::npos);
}

TEST_F(DeviceLockTest, AUserTakesALockThatRootMade) {
  { ASSERT_TRUE(take(camera_)); }
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!become_user({.uid = kTestId, .gid = kTestId, .groups = {}})) ::_exit(2);
    const bool had = make_lock_folder(locks_) && take(camera_) &&
                     take({.device = "new", .names = {"char-1-99"}});
    ::_exit(had ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

// Two that look at one lock at the same time must not take each other for its holder.
TEST_F(DeviceLockTest, WhoOnlyLooksIsNoHolder) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (;;) (void)lock_holder(locks_, camera_, 0);
  }
  for (int i = 0; i < 200; ++i) {
    const auto holder = lock_holder(locks_, camera_);
    EXPECT_FALSE(holder) << holder->words;
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

}  // namespace
}  // namespace loam::sandbox
