#include "cli/command_run.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "api/attach.h"
#include "cli/test_console.h"
#include "cli/verb.h"

namespace loam::cli {
namespace {

using engines::chunk;
using engines::chunked_head;
using engines::json_answer;
using engines::send_text;
using engines::TestServer;

TEST(Command, NotRunningYetIsWaitedForThenAttached) {
  std::atomic<bool> told{false}, ended{false};
  TestServer server([&](const std::string& request, int fd) {
    if (request.starts_with("POST /v1/attach/5")) {
      while (!told) std::this_thread::yield();  // held, as the node does until the job starts
      send_text(
          fd,
          "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: loam-attach\r\n\r\n" +
              api::encode_frame(api::AttachFrame::output, "hello\n") +
              api::encode_frame(
                  api::AttachFrame::exit,
                  R"({"outcome":"out_of_memory","missing":[{"guard":"cpu","reason":"no cgroup"}]})"));
      ended = true;
      return;
    }
    send_text(
        fd, chunked_head("text/event-stream") +
                event("step", R"({"step":"run","state":"queued","why":"waits for 2 of 2 CPUs"})") +
                event("step", R"({"step":"run","state":"running","target":"5/run"})"));
    told = true;
    while (!ended) std::this_thread::yield();
    send_text(fd, event("step", R"({"step":"run","state":"failed","target":"5/run"})") + kEnd);
  });
  Written written;
  Signals signals;
  const int status =
      watch_command(written.console, engines::LocalNode(server.path()), signals, {.run = 5});
  EXPECT_EQ(status, 137);
  EXPECT_EQ(written.stdout_text(), "hello\n");
  EXPECT_EQ(written.stderr_text(),
            "loam: waits for 2 of 2 CPUs\nloam: not guarded on this host: cpu (no cgroup); see "
            "loam doctor\n"
            "loam: out of memory\n");
}

TEST(Command, ANodeThatGoesAwayWhileItHoldsTheConnectionIsAskedAgain) {
  std::atomic<int> attaches{0};
  TestServer server([&](const std::string& request, int fd) {
    if (request.starts_with("POST /v1/attach/5") && attaches++ == 0) return;
    if (request.starts_with("POST /v1/attach/5"))
      return send_text(
          fd, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: loam-attach\r\n\r\n" +
                  api::encode_frame(api::AttachFrame::exit, R"({"outcome":"exited","code":3})"));
    send_text(fd, json_answer(200, R"({"id":5,"state":"running","jobs":[]})"));
  });
  Written written;
  Signals signals;
  EXPECT_EQ(watch_command(written.console, engines::LocalNode(server.path()), signals, {.run = 5}),
            3);
  EXPECT_NE(written.stderr_text().find("the node has not recorded it yet"), std::string::npos) << "it tells of no events";
}

TEST(Command, ALostConnectionFallsBackToTheLog) {
  TestServer server([&](const std::string& request, int fd) {
    if (request.starts_with("POST /v1/attach/5"))
      return send_text(fd, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: loam-attach\r\n\r\n" +
                               api::encode_frame(api::AttachFrame::output, "one\n"));
    if (request.starts_with("GET /v1/logs/5?follow=1&stream=all&from=4 "))
      return send_text(fd, chunked_head("application/octet-stream") + chunk("two\n") + kEnd);
    send_text(
        fd,
        json_answer(
            200,
            R"({"id":5,"state":"failed","jobs":[{"attempts":[{"exit":{"outcome":"exited","code":4}}]}]})"));
  });
  Written written;
  Signals signals;
  EXPECT_EQ(watch_command(written.console, engines::LocalNode(server.path()), signals, {.run = 5}),
            4);
  EXPECT_EQ(written.stdout_text(), "one\ntwo\n") << "what was printed is not printed twice";
}

TEST(Command, ARunThatNeverStartsTellsWhy) {
  TestServer server([&](const std::string& request, int fd) {
    if (request.starts_with("POST /v1/attach"))
      return send_text(
          fd, json_answer(503, R"({"error":{"code":"unavailable","text":"not running"}})"));
    if (request.starts_with("GET /v1/runs/5/events"))
      return send_text(fd, chunked_head("text/event-stream") +
                               event("run", R"({"state":"failed","error":"no env"})") + kEnd);
    if (request.starts_with("GET /v1/logs")) return send_text(fd, json_answer(404, "{}"));
    send_text(fd, json_answer(200, R"({"id":5,"state":"failed","error":"no env","jobs":[]})"));
  });
  Written written;
  Signals signals;
  EXPECT_EQ(watch_command(written.console, engines::LocalNode(server.path()), signals, {.run = 5}),
            1);
  EXPECT_EQ(written.stderr_text(), "loam: no env\n");
}

}  // namespace
}  // namespace loam::cli
