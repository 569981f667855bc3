#include "cli/follow.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "cli/test_console.h"
#include "cli/verb.h"

namespace loam::cli {
namespace {

using engines::chunk;
using engines::chunked_head;
using engines::json_answer;
using engines::send_text;
using engines::TestServer;

TEST(Follow, ARunFromItsEnvironmentToItsEndpoint) {
  TestServer server([](const std::string& request, int fd) {
    if (request.starts_with("GET /v1/logs/17/train/1?")) {
      send_text(fd, chunked_head("application/octet-stream") + chunk("loss 0.5\nlos"));
      return send_text(fd, chunk("s 0.25\n") + kEnd);
    }
    send_text(fd, chunked_head("text/event-stream"));
    send_text(
        fd,
        event("env", R"({"env":"digits","phase":"apt: downloading","done":1,"total":9})") +
            event("env", R"({"env":"digits","phase":"apt: downloading","done":2,"total":9})") +
            event(
                "env",
                R"({"env":"digits","state":"ready","digest":"abcdefabcdefabcdef","built":true})") +
            event(
                "step",
                R"({"step":"train","state":"queued","target":"17/train","changed":["params.lr"]})") +
            event("step", R"({"step":"train","state":"running","target":"17/train","attempt":1})") +
            event("step", R"({"step":"train","state":"succeeded","target":"17/train","attempt":1,
                        "exit":{"outcome":"exited","code":0,"started_ms":1000,"ended_ms":3400},"model_version":"digits@3"})") +
            event("service",
                  R"({"service":"digits","state":"ready","model_version":"digits@3","ready":1})") +
            event("endpoint", R"({"listening":"127.0.0.1:8000","models":["digits"]})") +
            event("run", R"({"state":"serving"})") + kEnd);
  });
  Written written;
  Signals signals;
  const int status =
      Follower(written.console, engines::LocalNode(server.path()), signals, 17, {}).follow();
  EXPECT_EQ(status, 0);
  EXPECT_EQ(written.stdout_text(),
            "environment digits: apt: downloading\n"
            "environment digits: built abcdefabcdef\n"
            "train: runs again, changed: params.lr\n"
            "loss 0.5\nloss 0.25\n"
            "train: done in 2.4 s → digits@3\n"
            "service digits: ready, digits@3, 1 replica\n"
            "endpoint http://127.0.0.1:8000 serves digits\n"
            "next: loam ps · loam logs 17 · loam trace 17 · loam down\n");
  EXPECT_EQ(written.stderr_text(), "");
}

TEST(Follow, AFailedStepSaysWhatItsOutputSaid) {
  TestServer server([](const std::string& request, int fd) {
    if (request.starts_with("GET /v1/logs")) return send_text(fd, json_answer(404, "{}"));
    send_text(
        fd, chunked_head("text/event-stream") +
                event("step", R"({"step":"a","state":"running","target":"3/a","attempt":1})") +
                event("step", R"({"step":"a","state":"failed","target":"3/a","attempt":1,
                        "exit":{"outcome":"exited","code":7},"error_line":"ValueError: a \u001b[2Jbanana"})") +
                event("step", R"({"step":"b","state":"skipped","target":"3/b","why":"a failed"})") +
                event("run", R"({"state":"failed","error":"step a failed"})") + kEnd);
  });
  Written written;
  Signals signals;
  EXPECT_EQ(Follower(written.console, engines::LocalNode(server.path()), signals, 3,
                     {.prefix_output = true})
                .follow(),
            1);
  const std::string text = written.stdout_text();
  EXPECT_NE(
      text.find("a: failed: exit status 7\n  its output says: ValueError: a \\x1b[2Jbanana\n"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("b: skipped: a failed\n"), std::string::npos) << text;
  EXPECT_EQ(written.stderr_text(), "loam: run 3 failed: step a failed\n");
}

TEST(Follow, ALostNodeIsWaitedForAndNothingIsToldTwice) {
  std::atomic<int> connections{0};
  TestServer server([&](const std::string&, int fd) {
    const std::string first =
        chunked_head("text/event-stream") +
        event("step", R"({"step":"a","state":"queued","target":"3/a","reason":"new"})") +
        event("note", R"({"text":"a guard is missing"})");
    if (connections++ == 0) return send_text(fd, first);  // and breaks off
    send_text(fd, first + event("run", R"({"state":"succeeded"})") + kEnd);
  });
  Written written;
  Signals signals;
  EXPECT_EQ(Follower(written.console, engines::LocalNode(server.path()), signals, 3, {}).follow(),
            0);
  EXPECT_EQ(written.stdout_text(),
            "a: new\na guard is missing\nrun 3 succeeded\n"
            "next: loam ps · loam logs 3 · loam trace 3 · loam down\n");
  EXPECT_NE(written.stderr_text().find("lost the node"), std::string::npos);
  EXPECT_EQ(connections, 2);
}

TEST(Follow, AnInterruptCancelsAndAHangUpDetaches) {
  for (const int number : {SIGINT, SIGHUP}) {
    ::signal(number, SIG_DFL);  // a shell's background job starts with SIGINT ignored
    std::atomic<bool> cancelled{false};
    TestServer server([&](const std::string& request, int fd) {
      if (request.starts_with("POST /v1/cancel")) {
        cancelled = true;
        return send_text(fd, json_answer(200, R"({"cancelled":["3/a"]})"));
      }
      send_text(fd, chunked_head("text/event-stream") + event("run", R"({"state":"running"})"));
      ::kill(::getpid(), number);
      if (number == SIGHUP) {
        char byte = 0;
        (void)::recv(fd, &byte, 1, 0);  // until the client leaves
        return;
      }
      while (!cancelled) ::usleep(1000);
      send_text(fd, event("run", R"({"state":"cancelled"})") + kEnd);
    });
    Written written;
    Signals signals;
    const int status =
        Follower(written.console, engines::LocalNode(server.path()), signals, 3, {}).follow();
    EXPECT_EQ(status, number == SIGINT ? 130 : 129);
    EXPECT_EQ(cancelled.load(), number == SIGINT) << number;
  }
}

}  // namespace
}  // namespace loam::cli
