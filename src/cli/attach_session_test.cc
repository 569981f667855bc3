#include "cli/attach_session.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <termios.h>

#include <thread>

#include "cli/test_console.h"
#include "cli/verb.h"

namespace loam::cli {
namespace {

using engines::send_text;

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

}  // namespace
}  // namespace loam::cli
