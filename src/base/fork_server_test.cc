#include "base/fork_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"

namespace loam {
namespace {

// This test's own program is the server's: glibc hands main's arguments to constructors too. What a child does:
//   echo TEXT…  writes its arguments to its descriptor     read  from its first descriptor to its second
//   status      writes /proc/self/status                   wait  until its descriptor's other end closes
// and a server that is asked to `die` does so before it forks.
int run_child(const ForkRequest& request) {
  const auto& fds = request.descriptors;
  const std::string& what = request.arguments[0];
  if (what == "echo" && write_full(fds[0].get(), join(request.arguments, " "))) return 7;
  if (what == "read" && write_full(fds[1].get(), read_fd(fds[0].get()).value_or("")) && fds.size() == 2) return 0;
  if (what == "status" && write_full(fds[0].get(), read_file("/proc/self/status").value_or(""))) return 0;
  if (what == "wait" && read_fd(fds[0].get())) return 0;
  return 1;
}

__attribute__((constructor)) void serve(int argument_count, char** arguments, char**) {
  if (argument_count < 2 || std::strcmp(arguments[1], "--serve") != 0) return;
  const auto request = serve_forks(argument_count, arguments, [](const ForkRequest& next) {
    if (next.arguments[0] == "die") ::_exit(0);
  });
  ::_exit(request && *request ? run_child(**request) : 0);
}

class ForkServerTest : public testing::Test {
 protected:
  std::string said_by(const std::vector<std::string>& arguments, int* status = nullptr) {
    Pipe pipe = make_pipe().value();
    auto child = server_.fork(arguments, {pipe.write_end.get()});
    pipe.write_end.reset();
    if (!child) return child.error().text;
    const std::string text = read_fd(pipe.read_end.get()).value_or("?");
    const int ended = child->wait().value_or(-1);
    if (status != nullptr) *status = ended;
    return text;
  }

  ForkServer server_{{"/proc/self/exe", "--serve"}, {"PATH=/usr/bin:/bin"}};
};

TEST_F(ForkServerTest, AChildHasItsArgumentsAndItsEndIsItsStarters) {
  int status = -1;
  EXPECT_EQ(said_by({"echo", "two words", ""}, &status), "echo two words ");
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(ForkServerTest, DescriptorsComeInTheirOrder) {
  Pipe in = make_pipe().value(), out = make_pipe().value();
  ASSERT_TRUE(write_full(in.write_end.get(), "through"));
  in.write_end.reset();
  auto child = server_.fork({"read"}, {in.read_end.get(), out.write_end.get()});
  ASSERT_TRUE(child) << child.error().text;
  out.write_end.reset();
  EXPECT_EQ(read_fd(out.read_end.get()).value(), "through");
  EXPECT_EQ(child->wait().value(), 0);
}

TEST_F(ForkServerTest, AChildOutlivesItsServerAndShowsWhatItIs) {
  Pipe held = make_pipe().value();
  Child child;
  {
    ForkServer brief{{"/proc/self/exe", "--serve"}, {}};
    child = brief.fork({"wait", "for me"}, {held.read_end.get()}).value();
  }
  const std::string line = read_file("/proc/" + std::to_string(child.pid()) + "/cmdline").value();
  EXPECT_NE(line.find(std::string("wait\0for me\0", 12)), std::string::npos) << line;
  held.write_end.reset();
  EXPECT_EQ(child.wait().value(), 0);
}

// A package's upgrade puts a new file in the program's place under a node that lives on.
TEST_F(ForkServerTest, AServerStartedAfterAnUpgradeIsStillTheOldProgram) {
  char folder[] = "/tmp/loam-fork-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string program = std::string(folder) + "/program";
  ASSERT_TRUE(std::filesystem::copy_file("/proc/self/exe", program));
  ForkServer server{{program, "--serve"}, {}};
  ASSERT_TRUE(write_full(open_file(program + ".new", O_WRONLY | O_CREAT, 0755).value().get(), "#!/bin/false\n"));
  ASSERT_EQ(::rename((program + ".new").c_str(), program.c_str()), 0);
  Pipe pipe = make_pipe().value();
  auto child = server.fork({"echo", "old"}, {pipe.write_end.get()});
  pipe.write_end.reset();
  ASSERT_TRUE(child) << child.error().text;
  EXPECT_EQ(read_fd(pipe.read_end.get()).value(), "echo old");
  EXPECT_EQ(WEXITSTATUS(child->wait().value()), 7);
  ASSERT_TRUE(remove_tree(folder));
}

TEST_F(ForkServerTest, WhatItsStarterIgnoresOrBlocksAChildDoesNot) {
  const auto before = ::signal(SIGUSR1, SIG_IGN);
  // The C library's own two; some programs' children start with them ignored.
  struct {
    void (*handler)(int);
    unsigned long flags = 0;
    void* restorer = nullptr;
    unsigned long mask = 0;
  } ignored{SIG_IGN};
  for (const int number : {32, 33})
    ASSERT_EQ(::syscall(SYS_rt_sigaction, number, &ignored, nullptr, sizeof ignored.mask), 0);
  sigset_t blocked, old;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &old);
  const std::string status = said_by({"status"});
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  ::signal(SIGUSR1, before);
  for (const int number : {32, 33}) set_default_signal(number);
  EXPECT_NE(status.find("SigIgn:\t0000000000000000"), std::string::npos) << status;
  EXPECT_NE(status.find("SigBlk:\t0000000000000000"), std::string::npos) << status;
}

TEST_F(ForkServerTest, ADeadServerIsAnErrorOnceAndThenReplaced) {
  EXPECT_EQ(said_by({"echo"}), "echo");
  const auto died = server_.fork({"die"}, {});
  ASSERT_FALSE(died);
  EXPECT_EQ(died.error().code, ErrorCode::io);  // nobody knows whether it had forked
  EXPECT_EQ(said_by({"echo", "again"}), "echo again");
}

TEST_F(ForkServerTest, AServerThatDiedUnaskedIsNotNoticed) {
  EXPECT_EQ(said_by({"echo"}), "echo");
  // The one child that we have.
  const std::string children =
      read_file("/proc/self/task/" + std::to_string(::gettid()) + "/children").value();
  const pid_t server = std::stoi(children);
  ASSERT_EQ(::kill(server, SIGKILL), 0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(server), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(said_by({"echo", "again"}), "echo again");
}

TEST_F(ForkServerTest, AMissingProgramSaysSo) {
  ForkServer nowhere{{"/nowhere/program", "--serve"}, {}};
  const auto child = nowhere.fork({"echo"}, {});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, ErrorCode::unavailable);
  EXPECT_NE(child.error().text.find("/nowhere/program"), std::string::npos);
}

TEST_F(ForkServerTest, TooMuchIsRefusedAndTheServerGoesOn) {
  const auto child = server_.fork({"echo", std::string(kForkRequestBytesMax, 'x')}, {});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, ErrorCode::too_large);
  const std::string large(kForkRequestBytesMax - 100, 'x');
  EXPECT_EQ(said_by({"echo", large}), "echo " + large);
}

TEST_F(ForkServerTest, ThreadsShareIt) {
  std::vector<std::string> said(8);
  {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < said.size(); ++i)
      threads.emplace_back([&, i] {
        for (int round = 0; round < 20; ++round) said[i] = said_by({"echo", std::to_string(i)});
      });
    for (std::thread& thread : threads) thread.join();
  }
  for (std::size_t i = 0; i < said.size(); ++i) EXPECT_EQ(said[i], "echo " + std::to_string(i));
}

}  // namespace
}  // namespace loam
