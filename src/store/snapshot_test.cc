#include "store/snapshot.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "base/text.h"
#include "store/snapshot_stream.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace loam::store {
namespace {

class Snapshot : public ::testing::Test {
 protected:
  void SetUp() override { store_ = std::move(*Store::open(state_ / "store")); }

  Result<TreeInfo> take(const WalkOptions& options = {}) {
    auto pipe = std::move(*make_pipe());
    std::thread writer([&, end = std::move(pipe.write_end)]() mutable {
      walked_ = walk_project(project_.path(), options, end.get());
      end.reset();
    });
    auto info = store_->put_tree_from_snapshot(pipe.read_end.get());
    pipe.read_end.reset();
    writer.join();
    return info;
  }
  std::vector<std::string> paths(const WalkOptions& options = {}) {
    const auto info = take(options);
    EXPECT_TRUE(info.has_value()) << info.error().text;
    std::vector<std::string> result;
    if (!info) return result;
    const auto entries = store_->listing(info->digest).value();
    for (const ListingEntry& entry : entries)
      if (entry.type != ListingEntry::Type::folder) result.push_back(entry.path);
    return result;
  }
  // The stream as bytes.
  std::string stream() {
    const auto fd = open_file(state_ / "stream", O_RDWR | O_CREAT | O_TRUNC, 0600);
    EXPECT_TRUE(walk_project(project_.path(), {}, fd->get()).has_value());
    return read_file(state_ / "stream").value();
  }
  Result<TreeInfo> put(std::string_view bytes) {
    state_.file("bytes", bytes);
    const auto fd = open_file(state_ / "bytes", O_RDONLY);
    return store_->put_tree_from_snapshot(fd->get());
  }

  using Paths = std::vector<std::string>;
  TestFolder state_;
  TestFolder project_;
  std::unique_ptr<Store> store_;
  Result<void> walked_;
};

TEST_F(Snapshot, AModelIsWholeAndNamesWhatIsLeftOut) {
  const WalkOptions model{.data_patterns = {}, .always_skip = {}, .model = true};
  project_.file(".gitignore", "*.bin\n");
  project_.file("weights.bin", std::string(300'000, 'w'));
  project_.file(".git/config", "x");
  project_.symlink("current", "weights.bin");
  project_.symlink("dangling", "absent");
  ASSERT_EQ(::mkfifo((project_ / "fifo").c_str(), 0600), 0);
  const auto info = take(model);
  ASSERT_TRUE(info.has_value()) << info.error().text;
  EXPECT_EQ(info->skipped, 2u);
  EXPECT_EQ(info->skipped_names, (Paths{".git", "fifo"}));
  EXPECT_EQ(paths(model), (Paths{".gitignore", "current", "dangling", "weights.bin"}));
}

TEST_F(Snapshot, AModelHasFilesAndNoWayOut) {
  const WalkOptions model{.data_patterns = {}, .always_skip = {}, .model = true};
  ASSERT_EQ(::mkdir((project_ / "empty").c_str(), 0755), 0);
  EXPECT_NE(take(model).error().text.find("has no file"), std::string::npos);
  project_.file("weights.bin", "w");
  for (const char* target : {"/etc/hostname", "../outside", "empty/../../x"}) {
    ASSERT_EQ(::symlink(target, (project_ / "link").c_str()), 0);
    EXPECT_NE(take(model).error().text.find("link: is a link out of the folder"), std::string::npos) << target;
    ASSERT_EQ(::unlink((project_ / "link").c_str()), 0);
  }
}

TEST_F(Snapshot, HoldsTheProjectAsItIsOwnedByRoot) {
  project_.file("train.py", "print()\n", 0755);
  project_.file("lib/weights.bin", std::string(600'000, 'w'));
  project_.file("lib/__init__.py", "");
  project_.symlink("current", "lib/weights.bin");
  project_.symlink("outside", "/etc/shadow");
  ASSERT_EQ(::chmod((project_ / "train.py").c_str(), 06755), 0);
  const auto info = take();
  ASSERT_TRUE(info.has_value()) << info.error().text;
  EXPECT_TRUE(walked_.has_value());
  const std::string tree = store_->tree_path(info->digest);
  EXPECT_EQ(read_file(tree + "/lib/weights.bin").value(), std::string(600'000, 'w'));
  struct stat status {};
  ASSERT_EQ(::stat((tree + "/train.py").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u) << "no set-id bits";
  EXPECT_EQ(status.st_uid, 0u);
  ASSERT_EQ(::lstat((tree + "/outside").c_str(), &status), 0);
  EXPECT_TRUE(S_ISLNK(status.st_mode)) << "a link stays a link";
  EXPECT_EQ(store_->put_tree(project_.open().get(), {.owner_root = true})->files, info->files);
  EXPECT_TRUE(store_->verify({}).value().empty());
}

TEST_F(Snapshot, LeavesOutGitIgnoredAndDataFiles) {
  project_.file(".git/config", "x");
  project_.file("sub/.git", "gitdir: elsewhere");
  project_.file(".gitignore", "*.pyc\n/out/\n");
  project_.file(".loamignore", "notes/\n!keep.pyc\n");
  project_.file("a.pyc", "x");
  project_.file("keep.pyc", "x");
  project_.file("out/x", "x");
  project_.file("notes/x", "x");
  project_.file("sub/.gitignore", "local\n");
  project_.file("sub/local", "x");
  project_.file("local", "x");
  project_.file("data/train-1.jsonl", "x");
  project_.file("data/readme", "x");
  project_.file("model/w", "x");
  project_.file("train.py", "x");
  ASSERT_EQ(::mkfifo((project_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(paths({.data_patterns = {"./data/*.jsonl"}, .always_skip = {"model"}}),
            (Paths{".gitignore", ".loamignore", "data/readme", "keep.pyc", "local",
                   "sub/.gitignore", "train.py"}));
}

TEST_F(Snapshot, ALinkNamedGitignoreIsNotFollowed) {
  state_.file("rules", "*\n");
  project_.symlink(".gitignore", state_ / "rules");
  project_.file("a", "x");
  EXPECT_EQ(paths(), (Paths{".gitignore", "a"}));
}

TEST_F(Snapshot, AFileOverTheLimitIsRefusedWithTheMend) {
  project_.file("weights.bin", "");
  ASSERT_EQ(::truncate((project_ / "weights.bin").c_str(), off_t{(64 << 20) + 1}), 0);
  const auto info = take();
  ASSERT_FALSE(info.has_value());
  EXPECT_EQ(info.error().code, ErrorCode::too_large);
  for (const char* word : {"weights.bin", "data:", "mounts:", ".loamignore"})
    EXPECT_NE(info.error().text.find(word), std::string::npos) << info.error().text;
  EXPECT_EQ(walked_.error().text, info.error().text) << "both sides say the same";
  project_.file(".loamignore", "weights.bin\n");
  EXPECT_TRUE(take().has_value());
}

TEST_F(Snapshot, AStreamCutAnywhereIsAnError) {
  project_.file("a", "x");
  project_.file("big", std::string(300'000, 'b'));
  const std::string whole = stream();
  ASSERT_TRUE(put(whole).has_value());
  ASSERT_TRUE(store_->collect({}, false).has_value());
  for (std::size_t size = 0; size < whole.size();
       size += size < 300 || size + 300 > whole.size() ? 1 : 50'000)
    EXPECT_FALSE(put(whole.substr(0, size)).has_value()) << size;
  EXPECT_FALSE(put(whole + "x").has_value());
  EXPECT_TRUE(list_folder(state_ / "store/trees").value().empty());
  EXPECT_TRUE(list_folder(state_ / "store/temp").value().empty());
}

TEST_F(Snapshot, ForeignBytesDoNoHarm) {
  project_.file("a/b", "x");
  project_.file("c", std::string(500, 'c'));
  project_.symlink("l", "a");
  const std::string whole = stream();
  unsigned seed = 3;
  for (int round = 0; round < 300; ++round) {
    std::string bytes = whole;
    for (int i = 0; i < 1 + round % 4; ++i) {
      seed = seed * 1664525u + 1013904223u;
      bytes[(seed >> 8) % bytes.size()] = static_cast<char>(seed >> 24);
    }
    (void)put(bytes);
  }
  EXPECT_TRUE(store_->verify({}).value().empty());
}

// What a hostile walk could send: each must be refused, and nothing may leave the tree.
TEST_F(Snapshot, HostileFramesAreRefused) {
  const auto refused = [&](const std::function<void(SnapshotWriter&)>& write) {
    {
      const auto fd = open_file(state_ / "hostile", O_RDWR | O_CREAT | O_TRUNC, 0600);
      SnapshotWriter writer(fd->get());
      write(writer);
      (void)writer.end();
    }
    const auto fd = open_file(state_ / "hostile", O_RDONLY);
    return !store_->put_tree_from_snapshot(fd->get()).has_value();
  };
  EXPECT_TRUE(refused([](auto& w) { (void)w.file("../x", 0644, 0); }));
  EXPECT_TRUE(refused([](auto& w) { (void)w.file("/etc/x", 0644, 0); }));
  EXPECT_TRUE(refused([](auto& w) { (void)w.folder("a/../b", 0755); }));
  EXPECT_TRUE(refused([](auto& w) {
    (void)w.symlink("etc", "/etc");
    (void)w.file("etc/x", 0644, 0);
  }));
  EXPECT_TRUE(refused([](auto& w) { (void)w.file("x", 0644, std::uint64_t{1} << 40); }));
  EXPECT_TRUE(refused([](auto& w) {
    (void)w.file("x", 0644, 2);
    (void)w.content("four");
  }));
  EXPECT_FALSE(refused([](auto& w) {
    (void)w.file("x", 06755, 4);
    (void)w.content("four");
  }));
}

TEST_F(Snapshot, FingerprintsByStatSampleAndFull) {
  project_.file("data/x-1.jsonl", "one");
  project_.file("data/x-2.jsonl", std::string(400'000, '2'));
  project_.file("data/deep/x-3.jsonl", "three");
  const auto take_one = [&](const char* mode) {
    return fingerprint_data(project_.path(), "data/x-*.jsonl", mode).value();
  };
  const Json stat = take_one("stat");
  ASSERT_EQ(stat["files"].size(), 2u);
  EXPECT_EQ(stat["files"].as_array()[0]["path"].as_string(), "data/x-1.jsonl");
  EXPECT_EQ(stat["files"].as_array()[1]["size"].as_int(), 400'000);
  const Json sample = take_one("sample");
  const Json full = take_one("full");
  EXPECT_EQ(full["files"].as_array()[0]["sha256"].as_string(), sha256_of("one").hex());
  EXPECT_NE(full["digest"], sample["digest"]);
  EXPECT_TRUE(store_->put_record(full).has_value()) << "fits a record";
  // Touched: only stat sees it.
  const timespec times[2] = {{5, 0}, {5, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (project_ / "data/x-1.jsonl").c_str(), times, 0), 0);
  EXPECT_NE(take_one("stat")["digest"], stat["digest"]);
  EXPECT_EQ(take_one("sample")["digest"], sample["digest"]);
  EXPECT_EQ(take_one("full")["digest"], full["digest"]);
  // Changed in the middle: only full sees it; at the end: sample too.
  std::string content(400'000, '2');
  content[200'000] = 'x';
  project_.file("data/x-2.jsonl", content);
  EXPECT_EQ(take_one("sample")["digest"], sample["digest"]);
  EXPECT_NE(take_one("full")["digest"], full["digest"]);
  content.back() = 'x';
  project_.file("data/x-2.jsonl", content);
  EXPECT_NE(take_one("sample")["digest"], sample["digest"]);
}

TEST_F(Snapshot, FingerprintsSayWhatIsWrong) {
  project_.file("data/a", "x");
  project_.symlink("data/shadow", "/etc/shadow");
  project_.symlink("data/inside", "a");
  project_.symlink("away", "/tmp");
  const auto code = [&](const char* pattern) {
    return fingerprint_data(project_.path(), pattern, "stat").error().code;
  };
  EXPECT_EQ(code("data/*.csv"), ErrorCode::not_found);
  EXPECT_EQ(code("nowhere/*.csv"), ErrorCode::not_found);
  EXPECT_EQ(code("data/sh*"), ErrorCode::invalid) << "a link out of the project";
  EXPECT_EQ(code("away/*"), ErrorCode::invalid);
  EXPECT_EQ(fingerprint_data(project_.path(), "data/[ai]*", "stat").value()["files"].size(), 2u);
  EXPECT_EQ(fingerprint_data(project_.path(), "**/a", "stat").value()["files"].size(), 1u);
  EXPECT_EQ(fingerprint_data(project_.path(), "data/a", "guess").error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace loam::store
