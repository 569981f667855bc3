// What the collector takes, what it leaves, and what verify() finds.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "store/layout.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace loam::store {
namespace {

class Keeping : public ::testing::Test {
 protected:
  void SetUp() override { store_ = std::move(*Store::open(state_ / "store")); }

  Digest put(const std::string& name, const std::string& content) {
    const TestFolder source;
    source.file("shared", "shared by all");
    source.file(name, content);
    return store_->put_tree(source.open().get(), {.owner_root = true}).value().digest;
  }
  bool is_clean() { return store_->verify({}).value().empty(); }
  std::string object_path(const Digest& tree, const std::string& path) {
    const auto entries = store_->listing(tree).value();
    for (const ListingEntry& entry : entries)
      if (entry.path == path) return state_ / "store/objects/" + Layout::spread(entry.object);
    return "";
  }

  // Turns the first byte into another, in place.
  static void spoil(const std::string& path) {
    const auto fd = open_file(path, O_RDWR);
    char first = 0;
    ASSERT_EQ(::pread(fd->get(), &first, 1, 0), 1);
    first = static_cast<char>(first ^ 1);
    ASSERT_EQ(::pwrite(fd->get(), &first, 1, 0), 1);
  }

  TestFolder state_;
  std::unique_ptr<Store> store_;
};

TEST_F(Keeping, WhatNoRootReachesGoes) {
  const Digest kept = put("a", "kept");
  const Digest gone = put("b", "gone");
  const Digest kept_blob = store_->put_blob("kept").value();
  const Digest gone_blob = store_->put_blob("gone").value();
  const Roots roots{.trees = {kept}, .blobs = {kept_blob}};
  const auto forecast = store_->collect(roots, true).value();
  EXPECT_TRUE(store_->has_tree(gone)) << "a dry run removes nothing";
  const auto report = store_->collect(roots, false).value();
  EXPECT_TRUE(store_->has_tree(kept));
  EXPECT_TRUE(store_->has_blob(kept_blob));
  EXPECT_FALSE(store_->has_tree(gone));
  EXPECT_FALSE(store_->has_blob(gone_blob));
  EXPECT_EQ(store_->listing(gone).error().code, ErrorCode::not_found);
  EXPECT_EQ(report.removed_trees, 1u);
  EXPECT_EQ(report.removed_objects, 1u) << "not the one that both share";
  EXPECT_EQ(report.removed_blobs, 1u);
  EXPECT_EQ(report.freed_bytes, 8u);
  EXPECT_EQ(forecast.removed_objects, report.removed_objects);
  EXPECT_EQ(forecast.freed_bytes, report.freed_bytes);
  EXPECT_EQ(read_file(store_->tree_path(kept) + "/shared").value(), "shared by all");
  EXPECT_TRUE(list_folder(state_ / "store/temp").value().empty());
  EXPECT_TRUE(is_clean());
}

TEST_F(Keeping, APinHoldsWhatIsPutWhileItLives) {
  const Digest before = put("a", "before");
  auto pin = store_->pin();
  const Digest during = put("b", "during");
  const Digest blob = store_->put_blob("blob").value();
  auto later_pin = store_->pin();
  ASSERT_TRUE(store_->collect({}, false).has_value());
  EXPECT_FALSE(store_->has_tree(before));
  EXPECT_TRUE(store_->has_tree(during));
  EXPECT_TRUE(store_->has_blob(blob));
  pin.reset();
  ASSERT_TRUE(store_->collect({}, false).has_value());
  EXPECT_FALSE(store_->has_tree(during)) << "it was put before the pin that is left";
  EXPECT_FALSE(store_->has_blob(blob));
}

TEST_F(Keeping, PuttingWhatIsThereAlreadyCountsForAPin) {
  const Digest tree = put("a", "x");
  const Digest blob = store_->put_blob("blob").value();
  const auto pin = store_->pin();
  EXPECT_EQ(put("a", "x"), tree);
  ASSERT_TRUE(store_->put_blob("blob").has_value());
  ASSERT_TRUE(store_->collect({}, false).has_value());
  EXPECT_TRUE(store_->has_tree(tree));
  EXPECT_TRUE(store_->has_blob(blob));
}

TEST_F(Keeping, APinMayOutliveItsStore) {
  const auto pin = store_->pin();
  store_.reset();
}

TEST_F(Keeping, ACopyBelongsToItsOwnerAndGoesWithItsTree) {
  if (::geteuid() != 0) GTEST_SKIP() << "gives files away, which needs root";
  const TestFolder source;
  source.file("bin/tool", "tool", 0755);
  source.file("big", std::string(300'000, 'b'));
  source.file("empty", "");
  source.symlink("link", "big");
  const Digest tree = store_->put_tree(source.open().get(), {.owner_root = true}).value().digest;
  const auto path = store_->copy_for(tree, 1234, 2345);
  ASSERT_TRUE(path.has_value()) << path.error().text;
  struct stat status {};
  for (const char* name : {"", "/bin", "/bin/tool", "/big", "/empty", "/link"}) {
    ASSERT_EQ(::lstat((*path + name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_uid, 1234u) << name;
    EXPECT_EQ(status.st_gid, 2345u) << name;
  }
  EXPECT_EQ(read_file(*path + "/big").value(), std::string(300'000, 'b'));
  ASSERT_EQ(::stat((store_->tree_path(tree) + "/big").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0u) << "the tree is as it was";
  EXPECT_EQ(store_->copy_for(tree, 1234, 2345).value(), *path);
  EXPECT_TRUE(is_clean());
  spoil(*path + "/big");
  EXPECT_FALSE(is_clean()) << "a copy is verified too";
  ASSERT_TRUE(store_->collect({.trees = {tree}, .blobs = {}}, false).has_value());
  EXPECT_TRUE(path_exists(*path));
  ASSERT_TRUE(store_->collect({}, false).has_value());
  EXPECT_FALSE(path_exists(*path));
}

// Each kind of rot is found and named.
TEST_F(Keeping, VerifyFindsChangedContent) {
  const Digest tree = put("a", "content");
  spoil(object_path(tree, "a"));
  const auto damage = store_->verify({}).value();
  ASSERT_EQ(damage.size(), 2u) << "the object, and the tree that holds it";
  EXPECT_TRUE(damage[0].what.starts_with("object "));
  EXPECT_TRUE(damage[1].what.starts_with("tree " + tree.hex()));
}

TEST_F(Keeping, VerifyFindsChangedMetadata) {
  const Digest tree = put("a", "content");
  ASSERT_EQ(::chmod(object_path(tree, "a").c_str(), 0777), 0);
  EXPECT_EQ(store_->verify({}).value().size(), 2u);
}

TEST_F(Keeping, VerifyFindsMissingAndForeignFiles) {
  const Digest tree = put("a", "content");
  ASSERT_EQ(::unlink((store_->tree_path(tree) + "/a").c_str()), 0);
  ASSERT_EQ(store_->verify({}).value().size(), 1u);
  state_.file("store/trees/" + tree.hex() + "/foreign", "x");
  EXPECT_EQ(store_->verify({}).value().size(), 2u);
}

TEST_F(Keeping, WhatIsNotTheStoresOwnIsNamedAndLeftAlone) {
  const Digest tree = put("a", "content");
  const Usage before = store_->usage().value();
  const std::vector<std::string> foreign{"objects/notes.txt", "objects/zz/x", "objects/ab/x.swp", "blobs/0a/.nfs1",
                                         "trees/old/x",       "listings/x",   "copies/mine/x"};
  for (const std::string& path : foreign) state_.file("store/" + path, "x");
  const Usage usage = store_->usage().value();
  EXPECT_EQ(usage.foreign, (std::vector<std::string>{"objects/ab/x.swp", "objects/notes.txt", "objects/zz", "blobs/0a/.nfs1",
                                                     "trees/old", "listings/x", "copies/mine"}));
  EXPECT_EQ(usage.size_bytes, before.size_bytes);
  EXPECT_EQ(usage.trees, before.trees);
  const auto damage = store_->verify({}).value();
  EXPECT_EQ(damage.size(), foreign.size());
  EXPECT_EQ(damage.front().finding, "is not the store's own; move it away");
  for (const bool dry_run : {true, false})
    EXPECT_EQ(store_->collect({.trees = {tree}, .blobs = {}}, dry_run).value().foreign, usage.foreign);
  EXPECT_EQ(store_->collect({}, false).value().removed_trees, 1u);
  for (const std::string& path : foreign) EXPECT_TRUE(path_exists(state_ / "store/" + path)) << path;
}

TEST_F(Keeping, VerifyFindsRottenBlobsAndListings) {
  const Digest tree = put("a", "content");
  const Digest blob = store_->put_blob("blob").value();
  spoil(store_->blob_path(blob));
  EXPECT_EQ(store_->verify({}).value().size(), 1u);
  spoil(state_ / "store/listings/" + tree.hex());
  EXPECT_EQ(store_->verify({}).value().size(), 3u)
      << "blob, listing, and the tree that it no longer names";
  EXPECT_EQ(store_->listing(tree).error().code, ErrorCode::corrupt);
}

TEST_F(Keeping, VerifyReportsItsProgressToTheEnd) {
  put("a", "content");
  std::uint64_t last = 0;
  std::uint64_t total = 0;
  ASSERT_TRUE(store_
                  ->verify([&](std::uint64_t done, std::uint64_t of) {
                    EXPECT_EQ(done, last + 1);
                    last = done;
                    total = of;
                    return true;
                  })
                  .has_value());
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, 4u) << "two objects, a tree, its listing";
}

TEST_F(Keeping, VerifyStopsWhenItsProgressSaysSo) {
  for (int i = 0; i < 100; ++i) put("a" + std::to_string(i), "content " + std::to_string(i));
  std::uint64_t calls = 0;
  const auto stopped = store_->verify([&](std::uint64_t, std::uint64_t) { return ++calls < 3; });
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  EXPECT_LT(calls, 50u) << "what was under way may end, no more";
  EXPECT_TRUE(is_clean());
}

// Puts, collections and verifications at once: what was put under a pin is there and whole.
TEST_F(Keeping, PutsAndCollectionsAtOnce) {
  const TestFolder source;
  for (int i = 0; i < 30; ++i) source.file(std::to_string(i), "content " + std::to_string(i));
  std::atomic<bool> done{false};
  std::thread collector([&] {
    while (!done) EXPECT_TRUE(store_->collect({}, false).has_value());
  });
  std::vector<std::thread> putters;
  for (int thread = 0; thread < 3; ++thread)
    putters.emplace_back([&, thread] {
      for (int round = 0; round < 15; ++round) {
        const auto pin = store_->pin();
        const auto info = store_->put_tree(source.open().get());
        ASSERT_TRUE(info.has_value()) << info.error().text;
        const auto blob = store_->put_blob("blob " + std::to_string(thread));
        EXPECT_TRUE(store_->has_tree(info->digest));
        EXPECT_TRUE(store_->listing(info->digest).has_value());
        EXPECT_EQ(read_file(store_->tree_path(info->digest) + "/7").value(), "content 7");
        EXPECT_TRUE(store_->has_blob(*blob));
      }
    });
  for (std::thread& putter : putters) putter.join();
  done = true;
  collector.join();
  EXPECT_TRUE(is_clean());
  EXPECT_TRUE(list_folder(state_ / "store/temp").value().empty());
}

}  // namespace
}  // namespace loam::store
