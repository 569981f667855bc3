#include "store/store.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>

#include "store/layout.h"
#include "store/object.h"
#include "store/test_folder.h"

namespace loam::store {
namespace {

std::unique_ptr<Store> open_store(const TestFolder& folder) {
  auto store = Store::open(folder / "store");
  EXPECT_TRUE(store.has_value()) << store.error().text;
  return std::move(*store);
}

std::string big(char c) { return std::string(700'000, c); }

struct stat status_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

// What a file capability looks like on disk: cap_net_raw+ep, version 2.
std::string net_raw_capability() {
  const unsigned char bytes[20] = {1, 0, 0, 2, 0, 0x20, 0, 0};
  return {reinterpret_cast<const char*>(bytes), sizeof bytes};
}

void fill(const TestFolder& source) {
  source.file("a.txt", "alpha");
  source.file("bin/tool", "#!/bin/sh\n", 0755);
  source.file("bin/same", "alpha");
  source.file("weights", big('w'));
  source.file("empty", "");
  source.file("odd name%\n", "odd");
  source.symlink("link", "../outside/nowhere");
  source.folder("nothing");
}

// Hosts with fs.protected_hardlinks=0: a job gives a name in its output to a file that it may not read.
TEST(Store, AnotherUsersFileUnderASecondNameIsNotTaken) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs a file of another user";
  constexpr uid_t kJob = 12345;
  const TestFolder folder;
  folder.file("shadow", "secret", 0600);
  folder.file("output/own", "own");
  ASSERT_EQ(::link((folder / "output/own").c_str(), (folder / "output/again").c_str()), 0);
  for (const char* name : {"output", "output/own"})
    ASSERT_EQ(::chown((folder / name).c_str(), kJob, kJob), 0);
  const auto store = open_store(folder);
  const auto output = open_file(folder / "output", O_RDONLY | O_DIRECTORY);
  EXPECT_TRUE(store->put_tree(output->get()));
  ASSERT_EQ(::link((folder / "shadow").c_str(), (folder / "output/mine").c_str()), 0);
  const auto taken = store->put_tree(output->get());
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::denied);
  EXPECT_NE(taken.error().text.find("mine: a hard link to a file of another user (uid 0)"), std::string::npos)
      << taken.error().text;
}

TEST(Store, ABlobIsNamedByItsContentAndRead) {
  const TestFolder folder;
  const auto store = open_store(folder);
  const Digest digest = store->put_blob("hello").value();
  EXPECT_EQ(digest, sha256_of("hello"));
  EXPECT_TRUE(store->has_blob(digest));
  EXPECT_EQ(store->read_blob(digest, 100).value(), "hello");
  EXPECT_EQ(store->read_blob(digest, 4).error().code, ErrorCode::too_large);
  EXPECT_EQ(store->read_blob(sha256_of("other"), 4).error().code, ErrorCode::not_found);
}

TEST(Store, ABlobOfOtherContentThanExpectedIsRefused) {
  const TestFolder folder;
  const auto store = open_store(folder);
  folder.file("download", "not what was promised");
  const auto fd = open_file(folder / "download", O_RDONLY);
  const Digest expected = sha256_of("promised");
  EXPECT_EQ(store->put_blob_from(fd->get(), &expected).error().code, ErrorCode::corrupt);
  EXPECT_FALSE(store->has_blob(expected));
  EXPECT_TRUE(list_folder(folder / "store/temp").value().empty());
  EXPECT_TRUE(store->put_blob_from(fd->get()).has_value());
}

TEST(Store, ARottenBlobIsNotRead) {
  const TestFolder folder;
  const auto store = open_store(folder);
  const Digest digest = store->put_blob("hello").value();
  const auto fd = open_file(store->blob_path(digest), O_WRONLY);
  ASSERT_TRUE(write_full(fd->get(), "jello").has_value());
  EXPECT_EQ(store->read_blob(digest, 100).error().code, ErrorCode::corrupt);
}

TEST(Store, ARecordIsCanonicalAndHoldsNoDoubles) {
  const TestFolder folder;
  const auto store = open_store(folder);
  const Json record = Json::object({{"b", 1}, {"a", "x"}});
  const Digest digest = store->put_record(record).value();
  EXPECT_EQ(digest, sha256_of(R"({"a":"x","b":1})"));
  EXPECT_EQ(store->get_record(digest).value(), record);
  EXPECT_EQ(store->put_record(Json::object({{"a", Json::array({1.5})}})).error().code,
            ErrorCode::invalid);
}

TEST(Store, ASecondOpenerIsBusyUntilTheFirstIsGone) {
  const TestFolder folder;
  auto store = open_store(folder);
  const auto second = Store::open(folder / "store");
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::busy);
  store.reset();
  EXPECT_TRUE(Store::open(folder / "store").has_value());
}

TEST(Store, OpeningEmptiesTemp) {
  const TestFolder folder;
  open_store(folder);
  folder.file("store/temp/7/objects/half", "half");
  open_store(folder);
  EXPECT_TRUE(list_folder(folder / "store/temp").value().empty());
}

TEST(Store, NetworkFilesystemsAreKnownByTheirMagic) {
  EXPECT_EQ(network_filesystem(0x6969), "NFS");
  EXPECT_EQ(network_filesystem(static_cast<long>(0xFF534D42)), "CIFS");
  EXPECT_EQ(network_filesystem(static_cast<int>(0xFF534D42)), "CIFS")
      << "sign-extended, as some libcs do";
  EXPECT_EQ(network_filesystem(0xEF53), "") << "ext4";
}

TEST(Store, ATreeIsWhatTheFolderWas) {
  const TestFolder folder(kRealDisk);
  const TestFolder source(kRealDisk);
  fill(source);
  const auto store = open_store(folder);
  const auto info = store->put_tree(source.open().get());
  ASSERT_TRUE(info.has_value()) << info.error().text;
  EXPECT_EQ(info->files, 6u);
  EXPECT_EQ(info->size_bytes, 5 + 10 + 700'000 + 3u) << "alpha counts once";
  EXPECT_TRUE(store->has_tree(info->digest));
  const std::string tree = store->tree_path(info->digest);
  EXPECT_EQ(read_file(tree + "/a.txt").value(), "alpha");
  EXPECT_EQ(read_file(tree + "/weights").value(), big('w'));
  EXPECT_EQ(read_file(tree + "/odd name%\n").value(), "odd");
  EXPECT_EQ(read_file(tree + "/empty").value(), "");
  EXPECT_EQ(status_of(tree + "/bin/tool").st_mode & 07777, 0755u);
  EXPECT_EQ(status_of(tree + "/a.txt").st_ino, status_of(tree + "/bin/same").st_ino);
  EXPECT_EQ(status_of(tree + "/empty").st_nlink, 1u);
  for (const char* name : {"", "/a.txt", "/bin", "/link", "/empty", "/nothing"})
    EXPECT_EQ(status_of(tree + name).st_mtim.tv_sec, 1) << name;
  char target[64];
  const ssize_t size = ::readlink((tree + "/link").c_str(), target, sizeof target);
  EXPECT_EQ(std::string(target, static_cast<std::size_t>(size)), "../outside/nowhere");
  EXPECT_TRUE(list_folder(folder / "store/temp").value().empty());
}

TEST(Store, TheListingNamesTheTree) {
  const TestFolder folder;
  const TestFolder source;
  fill(source);
  const auto store = open_store(folder);
  const TreeInfo info = store->put_tree(source.open().get()).value();
  const auto entries = store->listing(info.digest).value();
  EXPECT_EQ(Store::listing_digest(entries), info.digest);
  EXPECT_EQ(store->tree_info(info.digest).value().size_bytes, info.size_bytes);
  ASSERT_EQ(entries.size(), 10u);
  EXPECT_EQ(entries[0].path, "");
  EXPECT_EQ(entries[1].path, "a.txt");
  EXPECT_EQ(entries[1].content, sha256_of("alpha"));
  Meta meta;
  meta.uid = ::geteuid();
  meta.gid = ::getegid();
  EXPECT_EQ(entries[1].object, object_name(meta, sha256_of("alpha")));
}

// A folder's own place is "." in a listing, and so may be a link's target.
TEST(Store, ALinkToItsOwnFolderStaysOne) {
  const TestFolder folder;
  const TestFolder source;
  ASSERT_EQ(::symlink(".", (source / "self").c_str()), 0);
  const auto store = open_store(folder);
  const TreeInfo info = store->put_tree(source.open().get()).value();
  const auto entries = store->listing(info.digest).value();
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].path, "");
  EXPECT_EQ(entries[1].target, ".");
  EXPECT_EQ(Store::listing_digest(entries), info.digest);
  EXPECT_TRUE(store->verify({}).value().empty());
}

TEST(Store, EqualFoldersAreOneTreeWhateverTheirTimes) {
  const TestFolder folder;
  const TestFolder one;
  const TestFolder two;
  fill(one);
  fill(two);
  ASSERT_EQ(::chmod(one.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(two.path().c_str(), 0755), 0);
  const timespec times[2] = {{1'000'000, 0}, {2'000'000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (two / "a.txt").c_str(), times, 0), 0);
  const auto store = open_store(folder);
  const Digest first = store->put_tree(one.open().get()).value().digest;
  EXPECT_EQ(store->put_tree(two.open().get()).value().digest, first);
  two.file("a.txt", "alpha", 0600);
  EXPECT_NE(store->put_tree(two.open().get()).value().digest, first)
      << "the mode is part of the name";
}

TEST(Store, TakingAFileInNeverLinksIt) {
  const TestFolder folder;
  const TestFolder source;
  fill(source);
  const auto store = open_store(folder);
  const TreeInfo info = store->put_tree(source.open().get()).value();
  EXPECT_EQ(status_of(source / "weights").st_nlink, 1u);
  const auto fd = open_file(source / "weights", O_WRONLY);
  ASSERT_TRUE(write_full(fd->get(), "changed").has_value());
  EXPECT_EQ(read_file(store->tree_path(info.digest) + "/weights").value(), big('w'));
}

TEST(Store, OwnerRootDropsIdsSetIdBitsAndXattrs) {
  if (::geteuid() != 0) GTEST_SKIP() << "gives files away, which needs root";
  const TestFolder folder;
  const TestFolder source;
  source.file("tool", "x", 0755);
  ASSERT_EQ(::chown((source / "tool").c_str(), 1234, 1234), 0);
  ASSERT_EQ(::chmod((source / "tool").c_str(), 06755), 0);
  const auto store = open_store(folder);
  const Digest kept = store->put_tree(source.open().get()).value().digest;
  EXPECT_EQ(status_of(store->tree_path(kept) + "/tool").st_mode & 07777, 06755u);
  EXPECT_EQ(status_of(store->tree_path(kept) + "/tool").st_uid, 1234u);
  const Digest root = store->put_tree(source.open().get(), {.owner_root = true}).value().digest;
  EXPECT_EQ(status_of(store->tree_path(root) + "/tool").st_mode & 07777, 0755u);
  EXPECT_EQ(status_of(store->tree_path(root) + "/tool").st_uid, 0u);
}

TEST(Store, FileCapabilitiesAreKeptAndNamed) {
  if (::geteuid() != 0) GTEST_SKIP() << "sets a file capability, which needs root";
  const TestFolder folder(kRealDisk);
  const TestFolder source(kRealDisk);
  source.file("ping", "x", 0755);
  const auto store = open_store(folder);
  const Digest plain = store->put_tree(source.open().get()).value().digest;
  const std::string capability = net_raw_capability();
  ASSERT_EQ(::setxattr((source / "ping").c_str(), "security.capability", capability.data(),
                       capability.size(), 0),
            0);
  const Digest capable = store->put_tree(source.open().get()).value().digest;
  EXPECT_NE(capable, plain);
  char value[64];
  EXPECT_EQ(::getxattr((store->tree_path(capable) + "/ping").c_str(), "security.capability", value,
                       sizeof value),
            20);
  EXPECT_LT(::getxattr((store->tree_path(plain) + "/ping").c_str(), "security.capability", value,
                       sizeof value),
            0);
}

TEST(Store, CapabilitiesOfVersion3BecomeVersion2OrAreRefused) {
  std::string third = net_raw_capability() + std::string(4, '\0');
  third[3] = 3;
  EXPECT_EQ(capability_v2(third).value(), net_raw_capability());
  third[20] = 1;
  EXPECT_FALSE(capability_v2(third).has_value()) << "of another namespace";
  EXPECT_FALSE(capability_v2("xy").has_value());
  EXPECT_FALSE(capability_v2(net_raw_capability() + "x").has_value());
}

TEST(Store, SpecialFilesAreSkippedAndCounted) {
  const TestFolder folder;
  const TestFolder source;
  source.file("a", "x");
  ASSERT_EQ(::mkfifo((source / "pipe").c_str(), 0600), 0);
  const auto store = open_store(folder);
  const TreeInfo info = store->put_tree(source.open().get()).value();
  EXPECT_EQ(info.skipped, 1u);
  EXPECT_EQ(store->listing(info.digest).value().size(), 2u);
}

TEST(Store, LimitsNameTheFileAndTheLimit) {
  const TestFolder folder;
  const TestFolder source;
  source.file("big", big('b'));
  const auto store = open_store(folder);
  const auto single = store->put_tree(source.open().get(), {.file_size_bytes_max = 1000});
  EXPECT_EQ(single.error().code, ErrorCode::too_large);
  EXPECT_NE(single.error().text.find("big"), std::string::npos) << single.error().text;
  const auto total = store->put_tree(source.open().get(), {.size_bytes_max = 1000});
  EXPECT_EQ(total.error().code, ErrorCode::too_large);
  EXPECT_TRUE(list_folder(folder / "store/temp").value().empty());
}

TEST(Store, AFileThatClaimsMoreThanTheDiskHasIsFullAtOnce) {
  const TestFolder folder;
  const TestFolder source;
  source.file("sparse", "");
  ASSERT_EQ(::truncate((source / "sparse").c_str(), off_t{1} << 43), 0);
  const auto store = open_store(folder);
  const auto info = store->put_tree(source.open().get());
  EXPECT_EQ(info.error().code, ErrorCode::full);
  EXPECT_NE(info.error().text.find("free"), std::string::npos) << info.error().text;
}

TEST(Store, ManyFilesAndAgain) {
  const TestFolder folder(kRealDisk);
  const TestFolder source(kRealDisk);
  for (int i = 0; i < 400; ++i)
    source.file("d" + std::to_string(i % 7) + "/" + std::to_string(i), std::to_string(i % 90));
  const auto store = open_store(folder);
  const TreeInfo first = store->put_tree(source.open().get()).value();
  EXPECT_EQ(first.files, 400u);
  EXPECT_EQ(store->usage().value().objects, 90u);
  EXPECT_EQ(store->put_tree(source.open().get()).value().digest, first.digest);
  EXPECT_TRUE(store->verify({}).value().empty());
}

}  // namespace
}  // namespace loam::store
