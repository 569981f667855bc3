// What talks to a node: following runs, attached commands, submissions; against a server that
// answers by script.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <termios.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "cli/attach_session.h"
#include "cli/command_run.h"
#include "cli/follow.h"
#include "cli/submission.h"
#include "cli/verb.h"
#include "engines/test_server.h"

namespace loam::cli {
namespace {

using engines::chunk;
using engines::chunked_head;
using engines::json_answer;
using engines::send_text;
using engines::TestServer;

// A console that writes into unnamed files.
struct Written {
  Fd out{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  Fd error{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  Console console{out.get(), error.get(), false};

  static std::string text(const Fd& fd) {
    ::lseek(fd.get(), 0, SEEK_SET);
    return *read_fd(fd.get());
  }
  std::string stdout_text() const { return text(out); }
  std::string stderr_text() const { return text(error); }
};

std::string event(const std::string& kind, std::string data) {
  std::replace(data.begin(), data.end(), '\n',
               ' ');  // for people's sake they stand on several lines here
  return chunk("event: " + kind + "\ndata: " + data + "\n\n");
}

const std::string kEnd = "0\r\n\r\n";

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

// A shim's side of an attached connection, run by a function on its own thread.
AttachEnd attached(Written& written, const AttachOptions& options,
                   const std::function<void(int fd)>& shim) {
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  engines::Exchange::Upgraded connection{Fd(pair[0]), ""};
  Fd other(pair[1]);
  Signals signals;  // before the thread: it must not take them
  std::thread thread([&] {
    shim(other.get());
    other.reset();
  });
  AttachEnd end = run_attach_session(written.console, signals, std::move(connection), options);
  thread.join();
  return end;
}

TEST(Attach, StreamsStayApartAndTheExitIsTheRecord) {
  Written written;
  const AttachEnd end = attached(written, {}, [](int fd) {
    const std::string frames =
        api::encode_frame(api::AttachFrame::output, "o\x1b[0m") +
        api::encode_frame(api::AttachFrame::error, "e\n") +
        api::encode_frame(api::AttachFrame::exit, R"({"outcome":"exited","code":3})");
    for (const char c : frames) send_text(fd, std::string(1, c));
  });
  ASSERT_EQ(end.kind, AttachEnd::Kind::exited);
  EXPECT_EQ(end.exit_record["code"].as_int(), 3);
  EXPECT_EQ(end.output_bytes, 7u);
  EXPECT_EQ(written.stdout_text(), "o\x1b[0m") << "a command's bytes pass as they are";
  EXPECT_EQ(written.stderr_text(), "e\n");
}

TEST(Attach, WithoutInputItsEndIsToldAtOnce) {
  Written written;
  std::string first;
  (void)attached(written, {}, [&](int fd) {
    char buffer[5];
    if (::recv(fd, buffer, sizeof buffer, MSG_WAITALL) == 5) first.assign(buffer, 5);
  });
  EXPECT_EQ(first, std::string("\x01\0\0\0\0", 5));
}

TEST(Attach, MuchInputBothWaysDoesNotDeadlock) {
  Written written;
  auto input = make_pipe();
  ASSERT_TRUE(input);
  const std::string bytes(3 << 20, 'x');
  std::thread writer([&] {
    (void)write_full(input->write_end.get(), bytes);
    input->write_end.reset();
  });
  AttachOptions options;
  options.input = true;
  options.input_fd = input->read_end.get();
  // Echoes every input frame with blocking writes, as a command like cat would.
  const AttachEnd end = attached(written, options, [](int fd) {
    api::FrameReader reader;
    std::vector<char> buffer(65536);
    for (;;) {
      const auto frame = reader.next();
      if (!frame) return;
      if (!*frame) {
        const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (count <= 0) return;
        reader.add({buffer.data(), static_cast<std::size_t>(count)});
      } else if ((*frame)->payload.empty()) {
        return send_text(
            fd, api::encode_frame(api::AttachFrame::exit, R"({"outcome":"exited","code":0})"));
      } else {
        send_text(fd, api::encode_frame(api::AttachFrame::output, (*frame)->payload));
      }
    }
  });
  writer.join();
  EXPECT_EQ(end.kind, AttachEnd::Kind::exited);
  EXPECT_EQ(written.stdout_text().size(), bytes.size());
}

TEST(Attach, GarbageAndBrokenConnectionsAreLost) {
  for (const std::string& bytes :
       {std::string("\x09\x01\0\0\0x", 6), std::string("\x02\xff\xff\xff\xff", 5), std::string(""),
        api::encode_frame(api::AttachFrame::exit, "{no"),
        api::encode_frame(api::AttachFrame::input, "not yours")}) {
    Written written;
    EXPECT_EQ(attached(written, {}, [&](int fd) { send_text(fd, bytes); }).kind,
              AttachEnd::Kind::lost);
  }
}

TEST(Attach, AnInterruptWithoutATerminalCancelsASecondLeaves) {
  Written written;
  std::atomic<int> cancels{0};
  AttachOptions options;
  options.cancel = [&] {
    ++cancels;
    ::kill(::getpid(), SIGINT);
  };
  const AttachEnd end = attached(written, options, [](int fd) {
    ::kill(::getpid(), SIGINT);
    char byte = 0;
    (void)::recv(fd, &byte, 1, 0);
  });
  EXPECT_EQ(cancels, 1);
  EXPECT_EQ(end.kind, AttachEnd::Kind::left);
  EXPECT_EQ(end.status, 130);
  EXPECT_TRUE(end.interrupted);
}

TEST(Attach, TheTerminalIsRawMeanwhileAndRestored) {
  int master = -1;
  int slave = -1;
  winsize size{};
  size.ws_col = 0x0123;
  size.ws_row = 33;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, &size), 0);
  const Fd master_fd(master);
  const Fd slave_fd(slave);
  termios before{};
  ::tcgetattr(slave, &before);
  Written written;
  AttachOptions options;
  options.terminal = options.input = true;
  options.input_fd = slave;
  bool was_raw = false;
  std::string resize;
  (void)attached(written, options, [&](int fd) {
    char buffer[9];
    if (::recv(fd, buffer, sizeof buffer, MSG_WAITALL) == 9) resize.assign(buffer, 9);
    termios now{};
    ::tcgetattr(slave, &now);
    was_raw = (now.c_lflag & (ECHO | ICANON | ISIG)) == 0;
  });
  termios after{};
  ::tcgetattr(slave, &after);
  EXPECT_TRUE(was_raw);
  EXPECT_EQ(after.c_lflag, before.c_lflag);
  EXPECT_EQ(resize, std::string("\x04\x04\0\0\0\x23\x01\x21\0", 9))
      << "columns, rows, little endian";
}

TEST(Command, NotRunningYetIsWaitedForThenAttached) {
  std::atomic<bool> told{false};
  TestServer server([&](const std::string& request, int fd) {
    if (request.starts_with("POST /v1/attach/5")) {
      while (!told) std::this_thread::yield();  // held, as the node does until the job starts
      return send_text(
          fd,
          "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: loam-attach\r\n\r\n" +
              api::encode_frame(api::AttachFrame::output, "hello\n") +
              api::encode_frame(
                  api::AttachFrame::exit,
                  R"({"outcome":"out_of_memory","missing":[{"guard":"cpu","reason":"no cgroup"}]})"));
    }
    send_text(
        fd, chunked_head("text/event-stream") +
                event("step", R"({"step":"run","state":"queued","why":"waits for 2 of 2 CPUs"})") +
                event("step", R"({"step":"run","state":"running","target":"5/run"})"));
    told = true;
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
      return send_text(fd, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: loam-attach\r\n\r\n" +
                               api::encode_frame(api::AttachFrame::exit,
                                                 R"({"outcome":"exited","code":3})"));
    send_text(fd, json_answer(200, R"({"id":5,"state":"running","jobs":[]})"));
  });
  Written written;
  Signals signals;
  EXPECT_EQ(watch_command(written.console, engines::LocalNode(server.path()), signals, {.run = 5}),
            3);
}

TEST(Command, ALostConnectionFallsBackToTheLog) {
  TestServer server([&](const std::string& request, int fd) {
    if (request.starts_with("POST /v1/attach/5"))
      return send_text(fd, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: loam-attach\r\n\r\n" +
                               api::encode_frame(api::AttachFrame::output, "one\n"));
    if (request.starts_with("GET /v1/logs/5?"))
      return send_text(fd, chunked_head("application/octet-stream") + chunk("one\ntwo\n") + kEnd);
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
