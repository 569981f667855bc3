#include "base/packet.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace loam {
namespace {

class PacketTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ours_ = Fd(ends[0]);
    theirs_ = Fd(ends[1]);
  }
  Fd ours_, theirs_;
  std::array<char, 16> buffer_{};
};

TEST_F(PacketTest, BringsItsDescriptorsClosedOnExec) {
  const Fd first(::open("/dev/null", O_RDONLY)), second(::open("/dev/zero", O_RDONLY));
  const int sent[] = {first.get(), second.get()};
  ASSERT_EQ(send_packet(ours_.get(), "hello", sent), 5);
  const ReceivedPacket packet = receive_packet(theirs_.get(), buffer_);
  EXPECT_EQ(packet.size_bytes, 5);
  EXPECT_FALSE(packet.truncated);
  ASSERT_EQ(packet.descriptors.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    struct stat theirs {};
    struct stat ours {};
    ASSERT_EQ(::fstat(packet.descriptors[i].get(), &theirs), 0);
    ASSERT_EQ(::fstat(sent[i], &ours), 0);
    EXPECT_EQ(theirs.st_rdev, ours.st_rdev);
    EXPECT_EQ(::fcntl(packet.descriptors[i].get(), F_GETFD), FD_CLOEXEC);
  }
}

TEST_F(PacketTest, SaysWhatWasCutOff) {
  ASSERT_EQ(send_packet(ours_.get(), "more than sixteen bytes"), 23);
  const ReceivedPacket packet = receive_packet(theirs_.get(), buffer_);
  EXPECT_EQ(packet.size_bytes, 16);
  EXPECT_TRUE(packet.truncated);
}

TEST_F(PacketTest, TheEndAndNothingYetAreNotTheSame) {
  EXPECT_EQ(receive_packet(theirs_.get(), buffer_, MSG_DONTWAIT).size_bytes, -1);
  EXPECT_EQ(errno, EAGAIN);
  ours_.reset();
  EXPECT_EQ(receive_packet(theirs_.get(), buffer_).size_bytes, 0);
  EXPECT_EQ(send_packet(theirs_.get(), "x"), -1);  // and no SIGPIPE
  EXPECT_EQ(errno, EPIPE);
}

}  // namespace
}  // namespace loam
