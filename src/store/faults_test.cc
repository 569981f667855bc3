// The store against a disk that fails and a process that dies: at every call, once.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <map>

#include "base/mutex.h"
#include "store/snapshot.h"
#include "store/snapshot_stream.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace loam::store {
namespace {

void fill(const TestFolder& source) {
  for (int i = 0; i < 5; ++i)
    source.file("few/" + std::to_string(i), "content " + std::to_string(i), 0600);
  source.file("big", std::string(300'000, 'b'));
  source.file("empty", "");
  source.symlink("link", "big");
}

// Enough new files that the tree is synced as a whole.
void fill_many(const TestFolder& source) {
  for (int i = 0; i < 20; ++i)
    source.file("many/" + std::to_string(i), "content " + std::to_string(i));
}

void expect_clean(const TestFolder& state, const std::string& when) {
  auto store = Store::open(state / "store");
  ASSERT_TRUE(store.has_value()) << when << ": " << store.error().text;
  const auto damage = (*store)->verify({});
  ASSERT_TRUE(damage.has_value()) << when;
  EXPECT_TRUE(damage->empty()) << when << ": " << damage->front().what << " "
                               << damage->front().finding;
  EXPECT_TRUE(list_folder(state / "store/temp").value().empty()) << when;
}

using Put = std::function<Result<void>(Store&)>;

Put put_folder(const TestFolder& source) {
  return [&source](Store& store) -> Result<void> {
    LOAM_CHECK(store.put_tree(source.open().get()));
    return {};
  };
}

// Call n fails with `error_number` for n = 1, 2, … until the put succeeds.
void fail_each_call(const Put& put, int error_number) {
  for (int n = 1; n < 2000; ++n) {
    const TestFolder state;
    std::atomic<int> calls{0};
    std::string failed_call;
    {
      auto store = Store::open(state / "store", [&](std::string_view call, std::string_view) {
        if (++calls != n) return 0;
        failed_call = call;
        return error_number;
      });
      ASSERT_TRUE(store.has_value());
      const auto done = put(**store);
      const std::string when = "call " + std::to_string(n) + " (" + failed_call + ")";
      if (done && failed_call.empty()) return;  // more calls than there are: all have failed once
      if (!done && error_number == ENOSPC) {
        EXPECT_EQ(done.error().code, ErrorCode::full) << when << ": " << done.error().text;
        EXPECT_NE(done.error().text.find("no space left"), std::string::npos) << done.error().text;
      }
      EXPECT_TRUE(list_folder(state / "store/temp").value().empty())
          << when << ": left something half-written";
      const auto again = put(**store);
      EXPECT_TRUE(again.has_value()) << when << ": " << again.error().text;
    }
    expect_clean(state, "call " + std::to_string(n) + " (" + failed_call + ")");
  }
  FAIL() << "never succeeded";
}

TEST(StoreFaults, AFullDiskAtEachCallOfAPut) {
  const TestFolder source;
  fill(source);
  fail_each_call(put_folder(source), ENOSPC);
}

TEST(StoreFaults, AFullDiskAtEachCallOfALargerPut) {
  const TestFolder source;
  fill_many(source);
  fail_each_call(put_folder(source), ENOSPC);
}

TEST(StoreFaults, AFailingDiskAtEachCallOfAPut) {
  const TestFolder source;
  fill(source);
  fail_each_call(put_folder(source), EIO);
}

TEST(StoreFaults, AFullDiskAtEachCallOfASnapshot) {
  const TestFolder source;
  fill(source);
  const TestFolder stream;
  {
    const auto fd = open_file(stream / "s", O_RDWR | O_CREAT, 0600);
    ASSERT_TRUE(walk_project(source.path(), {}, fd->get()).has_value());
  }
  fail_each_call(
      [&](Store& store) -> Result<void> {
        const auto fd = open_file(stream / "s", O_RDONLY);
        LOAM_CHECK(store.put_tree_from_snapshot(fd->get()));
        return {};
      },
      ENOSPC);
}

TEST(StoreFaults, AFullDiskAtEachCallOfABlobARecordAndACopy) {
  const TestFolder source;
  fill(source);
  fail_each_call(
      [&](Store& store) -> Result<void> {
        LOAM_CHECK(store.put_blob("blob"));
        LOAM_CHECK(store.put_record(Json::object({{"a", 1}})));
        const TreeInfo info = LOAM_TRY(store.put_tree(source.open().get()));
        LOAM_CHECK(store.copy_for(info.digest, ::geteuid(), ::getegid()));
        return {};
      },
      ENOSPC);
}

TEST(StoreFaults, AFailureAtEachCallOfACollection) {
  const TestFolder source;
  fill(source);
  fail_each_call(
      [&](Store& store) -> Result<void> {
        LOAM_CHECK(store.put_blob("blob"));
        LOAM_CHECK(store.put_tree(source.open().get()));
        LOAM_CHECK(store.collect({}, false));
        return {};
      },
      EIO);
}

// A link count that is used up (ext4 allows 65,000) starts another copy of the object.
TEST(StoreFaults, TooManyLinksStartAnotherCopy) {
  const TestFolder state;
  const TestFolder source;
  for (int i = 0; i < 10; ++i) source.file(std::to_string(i), "same");
  std::map<std::string, int, std::less<>> refused;
  auto store = Store::open(state / "store", [&](std::string_view call, std::string_view path) {
    // Link 5 to the tree, and the store's own copy for the next tree.
    const bool refuse =
        call == "link" && (path == "5" || path.size() == 64) && ++refused[std::string(path)] == 1;
    return refuse ? EMLINK : 0;
  });
  const auto info = (*store)->put_tree(source.open().get());
  ASSERT_TRUE(info.has_value()) << info.error().text;
  const std::string tree = (*store)->tree_path(info->digest);
  struct stat fourth {};
  struct stat sixth {};
  ASSERT_EQ(::stat((tree + "/4").c_str(), &fourth), 0);
  ASSERT_EQ(::stat((tree + "/6").c_str(), &sixth), 0);
  EXPECT_NE(fourth.st_ino, sixth.st_ino);
  EXPECT_EQ(read_file(tree + "/6").value(), "same");
  EXPECT_TRUE((*store)->verify({}).value().empty());
}

// Power loss keeps any order of unsynced writes: so nothing may get a name that was not synced
// before.
TEST(StoreFaults, NothingGetsANameBeforeItWasSynced) {
  for (const bool many : {false, true}) {
    const TestFolder state;
    const TestFolder source;
    many ? fill_many(source) : fill(source);
    Mutex mutex;
    std::vector<std::pair<std::string, std::string>> calls;
    auto store = Store::open(state / "store", [&](std::string_view call, std::string_view path) {
      const MutexLock lock(mutex);
      calls.emplace_back(call, path);
      return 0;
    });
    const TreeInfo info = (*store)->put_tree(source.open().get()).value();
    std::size_t last_change = 0;
    std::size_t first_name = calls.size();
    std::size_t first_sync = calls.size();
    std::size_t listing_sync = calls.size();
    std::vector<std::size_t> names;  // of listing and tree
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const auto& [call, path] = calls[i];
      if (call == "write" || call == "create" || call == "set_mode" || call == "link" ||
          call == "symlink" || call == "make_folder" || call == "set_time")
        last_change = i;
      if (call.starts_with("sync")) first_sync = std::min(first_sync, i);
      if (call.starts_with("sync") && names.size() == 1) listing_sync = i;
      if (call == "rename" && (path.find('/') != std::string::npos || path.size() == 64))
        first_name = std::min(first_name, i);
      if (call == "rename" && path == info.digest.hex()) names.push_back(i);
    }
    EXPECT_LT(last_change, first_sync);
    EXPECT_LT(first_sync, first_name);
    ASSERT_EQ(names.size(), 2u);
    EXPECT_LT(listing_sync, names[1]) << "the listing's name is durable before the tree has one";
    EXPECT_EQ(calls.back().first, "sync") << "and the tree's before the put returns";
  }
}

// The process dies at call n of a put, a collection and another put.
TEST(StoreFaults, AKilledProcessLeavesAStoreThatVerifies) {
  const TestFolder first;
  const TestFolder second;
  fill(first);
  fill_many(second);
  bool finished = false;
  for (int n = 1; n < 2000 && !finished; n += n < 20 ? 1 : 3) {
    const TestFolder state;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::atomic<int> calls{0};
      auto store = Store::open(state / "store", [&](std::string_view, std::string_view) {
        if (++calls == n) ::kill(::getpid(), SIGKILL);
        return 0;
      });
      bool good = store.has_value() && (*store)->put_tree(first.open().get()).has_value();
      good = good && (*store)->put_blob("blob").has_value() &&
             (*store)->collect({}, false).has_value();
      good = good && (*store)->put_tree(second.open().get()).has_value();
      ::_exit(good ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    finished = WIFEXITED(status);
    if (finished) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
    }
    expect_clean(state, "killed at call " + std::to_string(n));
    auto store = Store::open(state / "store");
    EXPECT_TRUE((*store)->put_tree(first.open().get()).has_value());
  }
  EXPECT_TRUE(finished);
}

}  // namespace
}  // namespace loam::store
