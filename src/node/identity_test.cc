#include "node/identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/files.h"

namespace loam::node {
namespace {

class ReserveTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-ids-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }
  void put(const std::string& name, const std::string& text) {
    ASSERT_TRUE(write_file_atomic(folder_ + "/" + name, text, {.mode = 0644}));
  }
  std::string get(const std::string& name) {
    return read_file(folder_ + "/" + name).value_or("absent");
  }
  std::string folder_;
};

TEST_F(ReserveTest, TakesARangeThatIsFreeInBothFilesAndFindsItAgain) {
  put("subuid", "ana:100000:65536\n");
  put("subgid", "ana:100000:65536\nbob:170000:10");
  const auto identity = reserve_ids(folder_);
  ASSERT_TRUE(identity) << identity.error().text;
  EXPECT_EQ(identity->build_uids.first, 170'010U);
  EXPECT_EQ(identity->build_uids.count, 65'536U);
  EXPECT_EQ(identity->job_uid, 170'010U + 65'536U);
  EXPECT_EQ(get("subuid"), "ana:100000:65536\nloam:170010:131072\n");
  EXPECT_EQ(get("subgid"), "ana:100000:65536\nbob:170000:10\nloam:170010:131072\n");
  const auto again = reserve_ids(folder_);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->job_uid, identity->job_uid);
  EXPECT_EQ(get("subuid"), "ana:100000:65536\nloam:170010:131072\n");
  struct stat status {};
  ASSERT_EQ(::stat((folder_ + "/subuid").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644U);
  EXPECT_EQ(list_folder(folder_)->size(), 2U);  // no lock file stays
}

TEST_F(ReserveTest, MakesMissingFilesAndFinishesAHalfDoneStart) {
  put("subuid", "loam:300000:131072\n");
  const auto identity = reserve_ids(folder_);
  ASSERT_TRUE(identity);
  EXPECT_EQ(identity->build_uids.first, 300'000U);
  EXPECT_EQ(get("subgid"), "loam:300000:131072\n");
}

TEST_F(ReserveTest, TakesOverTheLockOfADeadProcess) {
  put("subuid.lock", "999999999");
  const auto identity = reserve_ids(folder_);
  ASSERT_TRUE(identity) << identity.error().text;
}

TEST(FreeRange, FillsGapsAndPassesOverlaps) {
  EXPECT_EQ(free_range("", "").value(), 100'000U);
  EXPECT_EQ(free_range("a:231072:1\n", "").value(),
            100'000U);  // the gap before it is exactly enough
  EXPECT_EQ(free_range("a:231071:1\n", "").value(), 231'072U);
  EXPECT_EQ(free_range("a:100000:500\nb:50:200000\n", "c:250000:1\n").value(), 250'001U);
  EXPECT_FALSE(free_range("a:1:600000000\n", ""));
}

TEST_F(ReserveTest, ReleaseTakesOnlyWhatWasReserved) {
  const std::string others = "alice:100000:65536\nloam:900000:65536\nbob:400000:65536\n";
  put("subuid", others);
  put("subgid", others);
  ASSERT_TRUE(reserve_ids(folder_));
  EXPECT_NE(get("subuid"), others);
  EXPECT_TRUE(release_ids(folder_).value());
  EXPECT_EQ(get("subuid"), others);
  EXPECT_EQ(get("subgid"), others);
  EXPECT_FALSE(release_ids(folder_).value());
  EXPECT_FALSE(path_exists(folder_ + "/subuid.lock"));
}

TEST(SubordinateRanges, ByNameOrIdAndNothingElse) {
  const std::string text =
      "ana:100000:65536\n1000:300000:10\nbob:1:1\nbroken\nana:x:5\nana:5\nana:7:0\n";
  const auto ranges = subordinate_ranges(text, "ana", 1000);
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[0].first, 100'000U);
  EXPECT_EQ(ranges[1].first, 300'000U);
  EXPECT_TRUE(subordinate_ranges(text, "eve", 7).empty());
}

std::string show(const std::vector<sandbox::IdMapLine>& map) {
  std::string text;
  for (const auto& line : map)
    text += std::to_string(line.inside) + "→" + std::to_string(line.outside) + "×" +
            std::to_string(line.count) + " ";
  return text;
}

TEST(RootlessMap, PutsTheUserAtItsOwnNumberAndTheRestAroundIt) {
  EXPECT_EQ(show(rootless_map(1000, {{100'000, 65'536}})),
            "0→100000×1000 1000→1000×1 1001→101000×64536 ");
  // The user's number lies above all subordinate ids, or at a border between two ranges.
  EXPECT_EQ(show(rootless_map(70'000, {{100'000, 65'536}})), "0→100000×65536 70000→70000×1 ");
  EXPECT_EQ(show(rootless_map(500, {{1'000, 500}, {9'000, 700}})),
            "0→1000×500 500→500×1 501→9000×700 ");
  EXPECT_EQ(show(rootless_map(600, {{1'000, 500}, {9'000, 700}})),
            "0→1000×500 500→9000×100 600→600×1 601→9100×600 ");
}

TEST(RootlessMap, EveryIdInsideIsMappedOnceAndInside) {
  for (const std::uint32_t own : {1U, 999U, 1000U, 65'535U, 65'536U, 200'000U}) {
    const std::vector<sandbox::IdRange> ranges = {{100'000, 65'536}, {300'000, 65'536}};
    std::uint32_t next = 0, count = 0;
    for (const auto& line : rootless_map(own, ranges)) {
      if (line.inside != own || line.outside != own) {
        EXPECT_EQ(line.inside, next);
      }
      next = line.inside + line.count;
      count += line.count;
    }
    EXPECT_EQ(count, 2 * 65'536U + 1);
    const auto build = rootless_build_range(own, ranges);
    EXPECT_GE(build.first, 1U);
    EXPECT_EQ(build.count, 65'536U) << own;
    EXPECT_TRUE(own < build.first || own >= build.first + build.count);
    EXPECT_LE(build.first + build.count, 2 * 65'536U + 1);
  }
  const auto small = rootless_build_range(1000, {{100'000, 65'536}});
  EXPECT_EQ(small.first, 1001U);
  EXPECT_EQ(small.count, 64'536U);
}

}  // namespace
}  // namespace loam::node
