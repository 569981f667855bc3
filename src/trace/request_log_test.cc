#include "trace/request_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <set>

#include "base/clock.h"
#include "base/files.h"
#include "trace/request_log_format.h"

namespace loam::trace {
namespace {

class RequestLog : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-trace-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { (void)remove_tree(folder_); }

  RequestEntry entry(std::int64_t time_ms = wall_ms()) {
    RequestEntry e;
    e.id = ids_.next(time_ms);
    e.replica = sha256_of("replica");
    e.status = 503;
    e.rows = 7;
    e.batch_rows = 32;
    e.queue_us = 1'500;
    e.compute_us = 4'000'000'000;
    return e;
  }
  std::vector<RequestEntry> write(std::size_t count) {
    auto writer = RequestLogWriter::open(folder_).value();
    std::vector<RequestEntry> entries;
    for (std::size_t i = 0; i < count; ++i) entries.push_back(entry());
    EXPECT_TRUE(writer.append(entries).has_value());
    EXPECT_TRUE(writer.sync().has_value());
    return entries;
  }
  bool finds(const RequestId& id) { return find_request(folder_, id).value().has_value(); }
  std::string only_segment() { return folder_ + "/" + list_folder(folder_).value().at(0); }
  void overwrite(const std::string& path, std::string_view bytes) {
    const auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ASSERT_TRUE(write_full(fd->get(), bytes).has_value());
  }

  std::string folder_;
  RequestIds ids_;
};

TEST(RequestId, TextIsAUlidInLowerCase) {
  RequestId id;
  EXPECT_EQ(id.text(), "req-00000000000000000000000000");
  id.bytes.fill(std::byte{0xFF});
  EXPECT_EQ(id.text(), "req-7zzzzzzzzzzzzzzzzzzzzzzzzz") << "the ULID specification's largest";
  // 1469918176385 ms is "01ARYZ6S41", from the specification's own example.
  RequestIds ids;
  EXPECT_TRUE(ids.next(1469918176385).text().starts_with("req-01aryz6s41"));
}

TEST(RequestId, ParsesWhatItPrintsAndRefusesTheRest) {
  RequestIds ids;
  for (int i = 0; i < 100; ++i) {
    const RequestId id = ids.next(1'700'000'000'000 + i);
    EXPECT_EQ(RequestId::parse(id.text()).value(), id);
    EXPECT_EQ(id.time_ms(), 1'700'000'000'000 + i);
  }
  EXPECT_EQ(RequestId::parse("req-01ARYZ6S410000000000000000").value(),
            RequestId::parse("req-oiaryz6s4l0000000000000000").value());
  for (const char* text : {"", "req-", "req-01aryz6s41", "01aryz6s410000000000000000000",
                           "req-81aryz6s410000000000000000", "req-01aryz6s41000000000000000u",
                           "req-01aryz6s4100000000000000000"})
    EXPECT_FALSE(RequestId::parse(text).has_value()) << text;
}

TEST(RequestId, NeverComesTwiceAndSortsByTime) {
  RequestIds one;
  RequestIds two;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(seen.insert(one.next(5).text()).second);
    EXPECT_TRUE(seen.insert(two.next(5).text()).second);
  }
  EXPECT_LT(one.next(5).text(), one.next(6).text());
}

TEST_F(RequestLog, FindsEachRequestAgainWithAllItsFields) {
  const auto entries = write(100);
  for (const RequestEntry& wanted : entries) {
    const auto found = find_request(folder_, wanted.id).value();
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->id, wanted.id);
    EXPECT_EQ(found->replica, sha256_of("replica"));
    EXPECT_EQ(found->status, 503);
    EXPECT_EQ(found->rows, 7u);
    EXPECT_EQ(found->batch_rows, 32u);
    EXPECT_EQ(found->queue_us, 1'500u);
    EXPECT_EQ(found->compute_us, 4'000'000'000u);
  }
  EXPECT_FALSE(finds(ids_.next(wall_ms())));
}

TEST_F(RequestLog, CostsAtMost100BytesARequest) {
  write(1000);
  EXPECT_LE(read_file(only_segment()).value().size(), 1000u * 100u);
}

TEST_F(RequestLog, RotatesAndRemovesTheOldest) {
  constexpr std::size_t kSmallSegment = kSegmentHeaderBytes + 10 * kEntryBytes;
  auto writer = RequestLogWriter::open(folder_, 3 * kSmallSegment, kSmallSegment).value();
  std::vector<RequestEntry> all;
  for (int i = 0; i < 55; ++i) {
    all.push_back(entry());
    ASSERT_TRUE(writer.append({all.back()}).has_value());
  }
  EXPECT_EQ(list_folder(folder_).value().size(), 3u);
  EXPECT_FALSE(finds(all.front().id));
  EXPECT_TRUE(finds(all.back().id));
  EXPECT_TRUE(finds(all[35].id));
}

TEST_F(RequestLog, EachOpeningBeginsANewSegmentAndOldOnesAreFound) {
  const auto first = write(3);
  const auto second = write(3);
  EXPECT_EQ(list_folder(folder_).value().size(), 2u);
  EXPECT_TRUE(finds(first[2].id));
  EXPECT_TRUE(finds(second[0].id));
}

TEST_F(RequestLog, StartingOftenForgetsNothing) {
  const auto first = write(1);
  for (int i = 0; i < 100; ++i) write(i % 2);
  EXPECT_TRUE(finds(first[0].id));
}

TEST_F(RequestLog, AnAnswerMayComeInALaterSegmentThanItsId) {
  const RequestEntry early = entry(wall_ms() - 60'000);
  write(1);
  write(1);
  auto writer = RequestLogWriter::open(folder_).value();
  ASSERT_TRUE(writer.append({early}).has_value());
  EXPECT_TRUE(finds(early.id));
}

TEST_F(RequestLog, ATornTailEndsASegmentSilently) {
  const auto entries = write(10);
  const std::string whole = read_file(only_segment()).value();
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    overwrite(only_segment(), std::string_view(whole).substr(0, cut));
    const std::size_t complete =
        cut < kSegmentHeaderBytes ? 0 : (cut - kSegmentHeaderBytes) / kEntryBytes;
    for (std::size_t i = 0; i < entries.size(); ++i)
      EXPECT_EQ(finds(entries[i].id), i < complete) << cut;
  }
}

TEST_F(RequestLog, AWrongByteCostsItsOwnEntryOnly) {
  const auto entries = write(10);
  const std::string whole = read_file(only_segment()).value();
  unsigned seed = 11;
  for (int round = 0; round < 500; ++round) {
    seed = seed * 1664525u + 1013904223u;
    const std::size_t at = kSegmentHeaderBytes + (seed >> 8) % (whole.size() - kSegmentHeaderBytes);
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (seed % 8)));
    overwrite(only_segment(), bytes);
    const std::size_t hit = (at - kSegmentHeaderBytes) / kEntryBytes;
    for (std::size_t i = 0; i < entries.size(); ++i)
      EXPECT_EQ(finds(entries[i].id), i != hit) << at;
  }
}

TEST_F(RequestLog, AWriteThatFailsHalfWayLeavesNoPart) {
  auto writer = RequestLogWriter::open(folder_).value();
  const RequestEntry before = entry();
  ASSERT_TRUE(writer.append({before}).has_value());
  // The file may grow by half an entry: write(2) then writes a part, as it does on a full disk.
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const rlimit limit{kSegmentHeaderBytes + kEntryBytes + kEntryBytes / 2, old_limit.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto failed = writer.append({entry()});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(failed.has_value());
  const RequestEntry after = entry();
  ASSERT_TRUE(writer.append({after}).has_value());
  EXPECT_TRUE(finds(before.id));
  EXPECT_TRUE(finds(after.id));
}

// The folder belongs to the user that the gateway runs as; the reader is root.
TEST_F(RequestLog, ThingsThatAreNoSegmentsArePassedBy) {
  const auto entries = write(2);
  const std::string copy = folder_ + "-copy";
  ASSERT_EQ(::rename(only_segment().c_str(), copy.c_str()), 0);
  const std::int64_t start = entries[0].id.time_ms();
  const auto path = [&](std::int64_t ms) { return folder_ + "/" + segment_name(ms); };
  ASSERT_EQ(::symlink(copy.c_str(), path(start).c_str()), 0);
  EXPECT_FALSE(finds(entries[0].id)) << "a link is not followed";
  ASSERT_EQ(::mkfifo(path(start + 1).c_str(), 0600), 0);
  ASSERT_EQ(::mkdir(path(start + 2).c_str(), 0700), 0);
  overwrite(path(start + 3), "");
  overwrite(path(start + 4), "LOAMREQ1");
  overwrite(folder_ + "/requests-ffffffffffffffff.log", "x");
  // A giant file is read up to a segment's size: what lies beyond is not found, and it ends.
  overwrite(path(start + 5), "LOAMREQ1");
  ASSERT_EQ(::truncate(path(start + 5).c_str(), off_t{1} << 40), 0);
  EXPECT_FALSE(finds(entries[0].id));
  ASSERT_EQ(::rename(copy.c_str(), path(start + 6).c_str()), 0);
  EXPECT_TRUE(finds(entries[0].id)) << "the others do not hide the real one";
}

TEST_F(RequestLog, AFolderThatIsALinkIsRefused) {
  write(1);
  const std::string link = folder_ + "-link";
  ASSERT_EQ(::symlink(folder_.c_str(), link.c_str()), 0);
  EXPECT_FALSE(find_request(link, ids_.next(wall_ms())).has_value());
  ASSERT_EQ(::unlink(link.c_str()), 0);
}

}  // namespace
}  // namespace loam::trace
