// For the tests of this folder: a scratch folder that goes with its owner, and short ways to fill
// one.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/files.h"

namespace loam::store {

// Most tests run in memory: what a real disk adds is the wait for its syncs, which others may fill.
inline constexpr const char* kMemoryDisk = "/dev/shm";
inline constexpr const char* kRealDisk = "/tmp";

class TestFolder {
 public:
  explicit TestFolder(const std::string& parent = kMemoryDisk) {
    path_ = parent + "/loam-store-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  ~TestFolder() { (void)remove_tree(path_); }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  // Makes the folders above it too.
  void file(const std::string& name, std::string_view content, mode_t mode = 0644) const {
    const std::string full = path_ + "/" + name;
    ASSERT_TRUE(make_folders(full.substr(0, full.rfind('/')), 0755).has_value());
    (void)::unlink(full.c_str());
    const auto fd = open_file(full, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ASSERT_TRUE(fd.has_value()) << fd.error().text;
    ASSERT_TRUE(write_full(fd->get(), content).has_value());
    ASSERT_EQ(::fchmod(fd->get(), mode), 0);
  }
  void folder(const std::string& name) const {
    ASSERT_TRUE(make_folders(path_ + "/" + name, 0755));
  }
  void symlink(const std::string& name, const std::string& target) const {
    ASSERT_EQ(::symlink(target.c_str(), (path_ + "/" + name).c_str()), 0);
  }
  Fd open() const { return std::move(*open_file(path_, O_RDONLY | O_DIRECTORY)); }

 private:
  std::string path_;
};

}  // namespace loam::store
