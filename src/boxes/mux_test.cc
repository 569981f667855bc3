#include "boxes/mux.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

namespace loam::boxes {
namespace {

struct Ends {
  Fd mine, muxed;
};

Ends make_ends() {
  int pair[2];
  LOAM_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  return {Fd(pair[0]), Fd(pair[1])};
}

std::string read_now(const Fd& fd) {
  std::string text(1 << 20, '\0');
  const ssize_t count = ::recv(fd.get(), text.data(), text.size(), MSG_DONTWAIT);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

// Two muxes whose streams are joined, and the sockets that the box's side has opened.
struct Pair {
  std::vector<Ends> opened;
  std::vector<std::string> services;
  Mux client;
  Mux box{[this](std::string_view service) -> Result<Fd> {
    services.emplace_back(service);
    if (service == "none") return fail(ErrorCode::not_found, "none");
    opened.push_back(make_ends());
    return std::move(opened.back().muxed);
  }};

  static void turn(Mux& mux) {
    std::vector<pollfd> polls;
    mux.add_polls(polls);
    if (::poll(polls.data(), polls.size(), 0) > 0) mux.handle(polls.data());
  }
  void run(int turns = 20) {
    for (int i = 0; i < turns; ++i) {
      turn(client);
      turn(box);
      ASSERT_TRUE(box.receive(std::exchange(client.out(), {})));
      ASSERT_TRUE(client.receive(std::exchange(box.out(), {})));
    }
  }
};

TEST(Mux, CarriesBytesBothWaysAndTheirEnds) {
  Pair pair;
  Ends here = make_ends();
  pair.client.open(std::move(here.muxed), "node");
  ASSERT_TRUE(write_full(here.mine.get(), std::string_view("question")));
  pair.run();
  ASSERT_EQ(pair.services, std::vector<std::string>{"node"});
  EXPECT_EQ(read_now(pair.opened[0].mine), "question");
  ::shutdown(here.mine.get(), SHUT_WR);
  pair.run();
  char byte = 0;
  EXPECT_EQ(::recv(pair.opened[0].mine.get(), &byte, 1, MSG_DONTWAIT), 0);
  ASSERT_TRUE(write_full(pair.opened[0].mine.get(), std::string_view("answer")));
  pair.opened[0].mine.reset();
  pair.run();
  EXPECT_EQ(read_now(here.mine), "answer");
  EXPECT_EQ(::recv(here.mine.get(), &byte, 1, MSG_DONTWAIT), 0);
  EXPECT_EQ(pair.client.channels() + pair.box.channels(), 0u);
}

TEST(Mux, WhoGoesAwayIsSeenThereAndWhatCannotBeOpenedIsClosed) {
  Pair pair;
  Ends here = make_ends(), refused = make_ends();
  pair.client.open(std::move(here.muxed), "node");
  pair.client.open(std::move(refused.muxed), "none");
  pair.run();
  char byte = 0;
  EXPECT_EQ(::recv(refused.mine.get(), &byte, 1, MSG_DONTWAIT), 0);
  here.mine.reset();
  pair.run();
  pollfd gone{pair.opened[0].mine.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&gone, 1, 0), 1);
  EXPECT_NE(gone.revents & POLLHUP, 0);
  EXPECT_EQ(pair.client.channels() + pair.box.channels(), 0u);
}

TEST(Mux, OneThatNobodyReadsHoldsItsWindowAndNoOther) {
  Pair pair;
  Ends slow = make_ends(), quick = make_ends();
  pair.client.open(std::move(slow.muxed), "node");
  pair.client.open(std::move(quick.muxed), "node");
  pair.run();
  std::string sent;
  const std::string piece(8192, 'x');
  for (int i = 0; i < 2000; ++i) {
    if (::send(pair.opened[0].mine.get(), piece.data(), piece.size(), MSG_DONTWAIT) ==
        static_cast<ssize_t>(piece.size()))
      sent += piece;
    pair.run(1);
  }
  ASSERT_GT(sent.size(), kWindowBytes);
  ASSERT_TRUE(write_full(pair.opened[1].mine.get(), std::string_view("here")));
  pair.run();
  EXPECT_EQ(read_now(quick.mine), "here");
  std::string taken;
  for (int i = 0; i < 3000 && taken.size() < sent.size(); ++i) {
    taken += read_now(slow.mine);
    pair.run(1);
  }
  EXPECT_EQ(taken.size(), sent.size());
}

TEST(Mux, RefusesWhatBreaksTheProtocol) {
  const auto refused = [](const std::string& bytes) {
    Mux box([](std::string_view) -> Result<Fd> { return std::move(make_ends().muxed); });
    return !box.receive(bytes);
  };
  const std::string open = encode_mux_frame(MuxFrame::open, 1, "node");
  EXPECT_FALSE(refused(open));
  EXPECT_TRUE(refused(open + open));
  EXPECT_TRUE(refused(encode_mux_frame(MuxFrame::data, 1, "x")));
  EXPECT_TRUE(refused(open + encode_mux_frame(MuxFrame::credit, 1, std::string("\1\0\0\0", 4))));
  EXPECT_TRUE(refused(open + encode_mux_frame(MuxFrame::end, 1, "") +
                      encode_mux_frame(MuxFrame::data, 1, "x")));
  EXPECT_TRUE(refused(encode_mux_frame(static_cast<MuxFrame>(9), 1, "")));
  EXPECT_TRUE(refused(std::string("\2\1\0\0\0\0\0\1\1", 9)));
  EXPECT_FALSE(Mux().receive(open)) << "a box opens no channel here";
}

TEST(Mux, SurvivesGarbage) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    Mux box([](std::string_view) -> Result<Fd> { return std::move(make_ends().muxed); });
    std::string bytes = encode_mux_frame(MuxFrame::open, 1, "node");
    for (int i = 0; i < 60; ++i) bytes += static_cast<char>(random() % 7);
    (void)box.receive(bytes);
  }
}

}  // namespace
}  // namespace loam::boxes
