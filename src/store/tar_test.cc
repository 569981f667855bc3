#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>

#include "base/process.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace loam::store {
namespace {

// Writes hostile archives that no tar program would: entries as told, in order.
class TarMaker {
 public:
  explicit TarMaker(const std::string& path) : writer_(::archive_write_new()) {
    ::archive_write_set_format_pax(writer_);
    ::archive_write_open_filename(writer_, path.c_str());
  }
  ~TarMaker() { ::archive_write_free(writer_); }
  TarMaker(const TarMaker&) = delete;
  TarMaker& operator=(const TarMaker&) = delete;

  struct Entry {
    std::string path;
    mode_t type = AE_IFREG;
    mode_t mode = 0644;
    std::string content;
    std::string link;  // target of a symlink
    std::string hard;  // target of a hard link
    std::string capability;
  };
  void add(const Entry& e) {
    archive_entry* entry = ::archive_entry_new();
    ::archive_entry_set_pathname(entry, e.path.c_str());
    ::archive_entry_set_filetype(entry, e.type);
    ::archive_entry_set_perm(entry, e.mode);
    if (!e.link.empty()) ::archive_entry_set_symlink(entry, e.link.c_str());
    if (!e.hard.empty()) ::archive_entry_set_hardlink(entry, e.hard.c_str());
    if (!e.capability.empty())
      ::archive_entry_xattr_add_entry(entry, "security.capability", e.capability.data(),
                                      e.capability.size());
    ::archive_entry_set_size(entry, static_cast<la_int64_t>(e.content.size()));
    EXPECT_EQ(::archive_write_header(writer_, entry), ARCHIVE_OK)
        << ::archive_error_string(writer_);
    ::archive_write_data(writer_, e.content.data(), e.content.size());
    ::archive_entry_free(entry);
  }

 private:
  archive* writer_;
};

class Tar : public ::testing::Test {
 protected:
  void SetUp() override { store_ = std::move(*Store::open(folder_ / "store")); }

  Result<TreeInfo> put(const std::vector<TarMaker::Entry>& entries, TreeOptions options = {}) {
    {
      TarMaker maker(folder_ / "a.tar");
      for (const auto& entry : entries) maker.add(entry);
    }
    const auto fd = open_file(folder_ / "a.tar", O_RDONLY);
    return store_->put_tree_from_tar(fd->get(), options);
  }
  void expect_refused(const std::vector<TarMaker::Entry>& entries, const std::string& why) {
    const auto info = put(entries);
    ASSERT_FALSE(info.has_value()) << why;
    EXPECT_NE(info.error().text.find(why), std::string::npos) << info.error().text;
    EXPECT_TRUE(list_folder(folder_ / "store/temp").value().empty());
    EXPECT_TRUE(list_folder(folder_ / "store/trees").value().empty());
  }

  TestFolder folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(Tar, GivesTheTreeOfTheFolderThatItWasMadeFrom) {
  const TestFolder source;
  ASSERT_EQ(::chmod(source.path().c_str(), 0755), 0);
  source.file("usr/bin/tool", "#!/bin/sh\n", 0755);
  source.file("usr/share/Főtanúsítvány.crt", "utf-8");
  source.file("usr/share/latin\xe9", "latin");
  source.file("big", std::string(600'000, 'x'));
  source.file("empty", "");
  source.symlink("bin", "usr/bin");
  ASSERT_EQ(::link((source / "big").c_str(), (source / "zbig").c_str()), 0);
  for (const char* format : {"--format=pax", "--format=gnu"}) {
    auto tar =
        run_collect({.argv = {"tar", format, "-C", source.path(), "-cf", folder_ / "a.tar", "."}});
    ASSERT_TRUE(tar.has_value() && tar->ok()) << tar->standard_error;
    const auto fd = open_file(folder_ / "a.tar", O_RDONLY);
    const auto from_tar = store_->put_tree_from_tar(fd->get());
    ASSERT_TRUE(from_tar.has_value()) << from_tar.error().text;
    EXPECT_EQ(from_tar->digest, store_->put_tree(source.open().get()).value().digest);
  }
  EXPECT_TRUE(store_->verify({}).value().empty());
}

TEST_F(Tar, KeepsFileCapabilities) {
  if (::geteuid() != 0) GTEST_SKIP() << "sets a file capability, which needs root";
  const unsigned char bytes[20] = {1, 0, 0, 2, 0, 0x20};
  const std::string capability(reinterpret_cast<const char*>(bytes), sizeof bytes);
  const auto info = put({{.path = "ping", .mode = 0755, .content = "x", .capability = capability}});
  ASSERT_TRUE(info.has_value()) << info.error().text;
  char value[64];
  EXPECT_EQ(::getxattr((store_->tree_path(info->digest) + "/ping").c_str(), "security.capability",
                       value, sizeof value),
            20);
}

TEST_F(Tar, SkipsDeviceNodesAndFifos) {
  const auto info = put({{.path = "dev/null", .type = AE_IFCHR},
                         {.path = "pipe", .type = AE_IFIFO},
                         {.path = "a", .content = "x"}});
  ASSERT_TRUE(info.has_value()) << info.error().text;
  EXPECT_EQ(info->skipped, 2u);
  EXPECT_EQ(info->files, 1u);
}

TEST_F(Tar, RefusesPathsThatLeaveTheTree) {
  expect_refused({{.path = "/etc/passwd", .content = "x"}}, "absolute");
  expect_refused({{.path = "../x", .content = "x"}}, "component");
  expect_refused({{.path = "a/../../x", .content = "x"}}, "component");
  expect_refused({{.path = "a//b", .content = "x"}}, "component");
}

TEST_F(Tar, RefusesPathsThroughALinkOrAFile) {
  expect_refused(
      {{.path = "etc", .type = AE_IFLNK, .link = "/etc"}, {.path = "etc/x", .content = "x"}},
      "is not a folder");
  expect_refused({{.path = "f", .content = "x"}, {.path = "f/x", .content = "x"}},
                 "is not a folder");
}

TEST_F(Tar, RefusesHardLinksToWhatDidNotComeBefore) {
  expect_refused({{.path = "shadow", .hard = "etc/shadow"}}, "came before");
  expect_refused({{.path = "shadow", .hard = "/etc/shadow"}}, "absolute");
  expect_refused(
      {{.path = "l", .type = AE_IFLNK, .link = "/etc/shadow"}, {.path = "h", .hard = "l"}},
      "came before");
}

TEST_F(Tar, RefusesAPathThatComesTwice) {
  expect_refused({{.path = "a", .content = "x"}, {.path = "a", .content = "y"}}, "twice");
}

TEST_F(Tar, TakesAFolderTwiceAndItsLastMode) {
  const auto info =
      put({{.path = "d/a", .content = "x"}, {.path = "d", .type = AE_IFDIR, .mode = 0700}});
  ASSERT_TRUE(info.has_value()) << info.error().text;
  EXPECT_EQ(store_->listing(info->digest).value()[1].mode, 0700u);
}

TEST_F(Tar, HoldsTheLimits) {
  const auto info =
      put({{.path = "a", .content = std::string(2000, 'x')}}, {.size_bytes_max = 1000});
  EXPECT_EQ(info.error().code, ErrorCode::too_large);
}

// A writer that was killed: at every cut the archive is refused, also between two entries.
TEST_F(Tar, RefusesAnArchiveCutAnywhere) {
  (void)put({{.path = "a", .content = "x"}, {.path = "b", .content = std::string(1000, 'y')}});
  const std::string whole = read_file(folder_ / "a.tar").value();
  ASSERT_TRUE(store_->collect({}, false).has_value());
  const std::size_t end = whole.find_last_not_of('\0');
  for (std::size_t size = 0; size <= end + 1; size += 256) {
    folder_.file("cut.tar", std::string_view(whole).substr(0, size));
    const auto fd = open_file(folder_ / "cut.tar", O_RDONLY);
    EXPECT_FALSE(store_->put_tree_from_tar(fd->get()).has_value()) << size;
  }
  EXPECT_TRUE(list_folder(folder_ / "store/trees").value().empty());
}

TEST_F(Tar, SurvivesForeignBytes) {
  (void)put({{.path = "a", .content = "x"}, {.path = "d/b", .content = std::string(1000, 'y')}});
  const std::string whole = read_file(folder_ / "a.tar").value();
  unsigned seed = 7;
  for (int round = 0; round < 300; ++round) {
    std::string bytes = whole.substr(0, 6000);
    for (int i = 0; i < 8; ++i) {
      seed = seed * 1664525u + 1013904223u;
      bytes[(seed >> 8) % bytes.size()] = static_cast<char>(seed >> 24);
    }
    folder_.file("bad.tar", bytes);
    const auto fd = open_file(folder_ / "bad.tar", O_RDONLY);
    (void)store_->put_tree_from_tar(fd->get(), {.size_bytes_max = 1 << 20});
  }
  EXPECT_TRUE(store_->verify({}).value().empty());
}

}  // namespace
}  // namespace loam::store
