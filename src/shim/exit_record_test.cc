// The record on a disk that is full by the time of the end.
#include "shim/exit_record.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::shim {
namespace {

class ExitRecordTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "run as root: it mounts a small disk";
    char path[] = "/tmp/loam-record-test.XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    folder_ = path;
    ASSERT_EQ(::mount("none", path, "tmpfs", 0, "size=256k"), 0);
    record_.attempt = "7";
    record_.outcome = api::Outcome::failed_to_start;
    record_.error = std::string(9'000, 'x');
  }
  void TearDown() override {
    ::umount2(folder_.c_str(), MNT_DETACH);
    ::rmdir(folder_.c_str());
  }
  void fill_disk() {
    const auto file = open_file(folder_ + "/filler", O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(file);
    const std::string page(4096, 'x');
    while (::write(file->get(), page.data(), page.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC);
  }

  std::string folder_;
  api::ExitRecord record_;
};

TEST_F(ExitRecordTest, WrittenThoughTheDiskIsFull) {
  ASSERT_TRUE(reserve_exit_record(folder_));
  fill_disk();
  EXPECT_FALSE(has_exit_record(folder_));
  const auto written = write_exit_record(folder_, record_);
  ASSERT_TRUE(written) << written.error().text;
  const auto text = read_file(folder_ + "/exit.json");
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, api::to_json(record_).dump());
  EXPECT_TRUE(write_exit_record(folder_, {}));
  EXPECT_EQ(read_file(folder_ + "/exit.json").value_or(""), *text);
}

TEST_F(ExitRecordTest, WithoutRoomItSaysThatTheDiskIsFull) {
  fill_disk();
  EXPECT_EQ(reserve_exit_record(folder_).error().code, ErrorCode::full);
  EXPECT_EQ(write_exit_record(folder_, record_).error().code, ErrorCode::full);
  EXPECT_FALSE(has_exit_record(folder_));
}

}  // namespace
}  // namespace loam::shim
