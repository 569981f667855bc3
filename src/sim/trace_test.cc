// Traces as people have them, and as they should not be.
#include "sim/trace.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <zlib.h>

#include <random>

#include "base/files.h"
#include "sim/lines.h"
#include "sim/values.h"

namespace loam::sim {
namespace {

class TraceTest : public testing::Test {
 protected:
  TraceTest() { EXPECT_NE(::mkdtemp(folder_), nullptr); }
  ~TraceTest() override { (void)remove_tree(folder_); }

  std::string path(const std::string& name) const { return std::string(folder_) + "/" + name; }
  std::string write(const std::string& text, const std::string& name = "trace") const {
    EXPECT_TRUE(write_file_atomic(path(name), text, {.durable = false}));
    return path(name);
  }
  std::string write_gzip(const std::string& text) const {
    const gzFile file = ::gzopen(path("trace.gz").c_str(), "wb");
    ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    ::gzclose(file);
    return path("trace.gz");
  }
  Trace read(const std::string& text, const ReadOptions& options = {}) const {
    auto trace = read_trace(write(text), options);
    EXPECT_TRUE(trace) << trace.error().text;
    return trace ? *trace : Trace{};
  }
  // The error without the folder before each file's name.
  std::string error_of(const std::string& text) const {
    const auto trace = read_trace(write(text), {});
    if (trace) return "";
    std::string error = trace.error().text;
    const std::string before = std::string(folder_) + "/";
    for (std::size_t at; (at = error.find(before)) != std::string::npos;)
      error.erase(at, before.size());
    return error;
  }

  char folder_[32] = "/tmp/loam-trace-XXXXXX";
};

TEST_F(TraceTest, StandardWorkloadFormat) {
  const Trace trace = read(
      "; Version: 2.2\n"
      ";   UnixStartTime: 835466527   some remark\n"
      "; MaxProcs: 430 (of which 16 are wide)\n"
      ";\n"
      "   1    10  5   100   4 90.5 2048  8  600  1024 1 3 2 1 1 1 -1 -1\r\n"
      "2 20 5 50.5 4 -1 -1 -1 -1 -1 0 -1 -1 -1 -1 -1 1 30\n"
      "\n"
      "3 30 0 7\n");  // cut: no processors are known
  EXPECT_EQ(trace.format, "SWF");
  EXPECT_EQ(trace.processors, 430u);
  EXPECT_TRUE(trace.dated);
  EXPECT_EQ(trace.origin_ms, (835466527LL + 10) * 1000);
  ASSERT_EQ(trace.jobs.size(), 2u);
  const Job& first = trace.jobs[0];
  EXPECT_EQ(first.id, "1");
  EXPECT_EQ(first.submit_ms, 0);
  EXPECT_EQ(first.duration_ms, 100'000);
  EXPECT_EQ(first.limit_ms, 600'000);
  EXPECT_EQ(first.cpu_milli, 8000u);  // requested, not the 4 that it got
  EXPECT_EQ(first.memory_bytes, 8ull * 1024 * 1024);
  EXPECT_EQ(trace.users[first.user], "3");
  EXPECT_EQ(trace.accounts[first.account], "2");
  const Job& second = trace.jobs[1];
  EXPECT_EQ(second.submit_ms, 10'000);
  EXPECT_EQ(second.duration_ms, 50'500);
  EXPECT_EQ(second.limit_ms, 0);
  EXPECT_EQ(second.cpu_milli, 4000u);
  EXPECT_EQ(trace.users[second.user], "unknown");
  EXPECT_EQ(trace.accounts[second.account], "");
  EXPECT_EQ(trace.left_out.at("no number of processors recorded"), 1u);
  ASSERT_EQ(trace.notes.size(), 1u);
  EXPECT_EQ(trace.notes[0],
            "jobs that name a preceding one: 1; submitted when the trace says, not after it");
}

TEST_F(TraceTest, SwfJobsThatNeverRanAndPartsOfJobsAreLeftOut) {
  const Trace trace = read(
      "1 0 0 10 1 -1 -1 1 -1 -1 1 1\n"
      "2 0 0 0 0 -1 -1 1 -1 -1 5 1\n"
      "3 0 0 -1 0 -1 -1 1 -1 -1 5 1\n"
      "4 0 0 -1 1 -1 -1 1 -1 -1 0 1\n"
      "5 0 0 9 1 -1 -1 1 -1 -1 2 1\n"
      "5 0 0 9 1 -1 -1 1 -1 -1 3 1\n"
      "6 0 0 0 1 -1 -1 1 -1 -1 1 1\n");
  ASSERT_EQ(trace.jobs.size(), 2u);
  EXPECT_EQ(trace.jobs[1].id, "6");  // it ran, in no time
  EXPECT_EQ(trace.left_out.at("cancelled before it ran"), 2u);
  EXPECT_EQ(trace.left_out.at("no run time recorded"), 1u);
  EXPECT_EQ(trace.left_out.at("a part of a job, whose whole has a line of its own"), 2u);
}

TEST_F(TraceTest, CsvInAnyOrderWithQuotesAndDates) {
  const Trace trace = read(
      "\xEF\xBB\xBF\"User\",Duration,GPU_num,note,Submit "
      "Time,priority,memory,vc,job_id,time_limit\r\n"
      "\"smith, \"\"j\"\"\",01:30:00,2,\"two\nlines\",2020-03-01 00:00:30,5,2GiB,nlp,j1,1d\r\n"
      ",90.5,0.25,,2020-02-29T23:00:00+01:00,-1,,,j2,\r\n");
  EXPECT_EQ(trace.format, "CSV");
  ASSERT_EQ(trace.jobs.size(), 2u);
  const Job& early = trace.jobs[0];  // the file has it second
  EXPECT_EQ(early.id, "j2");
  EXPECT_EQ(trace.users[early.user], "unknown");
  EXPECT_EQ(early.duration_ms, 90'500);
  EXPECT_EQ(early.gpu_milli, 250u);
  EXPECT_EQ(early.priority, -1);
  EXPECT_EQ(early.limit_ms, 0);
  const Job& late = trace.jobs[1];
  EXPECT_EQ(trace.users[late.user], "smith, \"j\"");
  EXPECT_EQ(trace.accounts[late.account], "nlp");
  // 22:00:00 UTC of the day before, and a leap day lies between.
  EXPECT_EQ(late.submit_ms, (2 * 3600 + 30) * 1000);
  EXPECT_EQ(late.duration_ms, 5400 * 1000);
  EXPECT_EQ(late.gpu_milli, 2000u);
  EXPECT_EQ(late.memory_bytes, 2ull << 30);
  EXPECT_EQ(late.priority, 5);
  EXPECT_EQ(late.limit_ms, 86'400'000);
  EXPECT_EQ(trace.origin_ms, 1583013600000);  // date -d '2020-02-29 22:00 UTC' +%s
  EXPECT_EQ(trace.notes,
            (std::vector<std::string>{"columns that say nothing here are left out: note",
                                      "not in order of submission: sorted"}));
}

TEST_F(TraceTest, CsvDurationFromStartAndEnd) {
  const Trace trace = read("submit_time;start_time;end_time;cpu_num;user\n0;10;25;2;a\n5;;;2;a\n");
  ASSERT_EQ(trace.jobs.size(), 1u);
  EXPECT_EQ(trace.jobs[0].duration_ms, 15'000);
  EXPECT_EQ(trace.left_out.at("no run time recorded"), 1u);
}

TEST_F(TraceTest, CsvPartsOfGpusBeyondOneAreWholeOnes) {
  const Trace trace = read("submit,duration,gpus,user\n0,1,1.5,a\n0,1,0.5,a\n0,1,3,a\n");
  EXPECT_EQ(trace.jobs[0].gpu_milli, 2000u);
  EXPECT_EQ(trace.jobs[1].gpu_milli, 500u);
  EXPECT_EQ(trace.jobs[2].gpu_milli, 3000u);
}

TEST_F(TraceTest, GzipIsReadAsItsText) {
  const std::string text = "1 0 0 10 1\n2 5 0 10 1\n";
  const auto trace = read_trace(write_gzip(text), {});
  ASSERT_TRUE(trace) << trace.error().text;
  EXPECT_EQ(trace->jobs.size(), 2u);
  // Two members in one file, as `cat a.gz b.gz` makes.
  std::string bytes = *read_file(path("trace.gz"));
  EXPECT_EQ(read_trace(write(bytes + bytes, "two.gz"), {})->jobs.size(), 4u);
  const auto cut = read_trace(write(bytes.substr(0, bytes.size() - 9), "cut.gz"), {});
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, ErrorCode::corrupt) << cut.error().text;
  bytes[bytes.size() - 6] ^= 1;  // its checksum
  EXPECT_EQ(read_trace(write(bytes, "bad.gz"), {}).error().code, ErrorCode::corrupt);
}

TEST_F(TraceTest, WhatIsWrongIsNamedWithFileAndLine) {
  EXPECT_EQ(
      error_of("1 0 0 10 1\n2 x 0 -7 1\n3 0 0 -7 1\n4 0 0 1 many\n5\n"),
      "trace:2: field 2, submission: found 'x', expected seconds or a date such as "
      "2017-10-01 12:34:56\n"
      "trace:3: field 4, run time: found '-7', expected seconds, 1h30m or HH:MM:SS, at most 10 "
      "years\n"
      "trace:4: field 5, allocated processors: found 'many', expected a number from 0 to "
      "1000000000\n"
      "trace:5: found 1 field, expected 18, at least the job's number and its submission\n"
      "(--skip-bad leaves such lines out, and counts them)");
  const std::string head =
      "; expected a header that names the columns submit, duration, gpus and "
      "user (docs/simulation.md), or the Standard Workload Format";
  EXPECT_EQ(error_of("submit,gpus,user\n"),
            "trace:1: no column 'duration', nor both 'start' and 'end'" + head);
  EXPECT_EQ(error_of("submit,duration,user\n"), "trace:1: no column 'gpus', nor 'cpus'" + head);
  EXPECT_EQ(error_of("sumbit,duration,gpus\n"),
            "trace:1: no column 'submit' (is 'sumbit' meant for it?)" + head);
  EXPECT_EQ(error_of("hello\n"), "trace:1: no column 'submit'" + head);
  EXPECT_EQ(error_of("submit,duration,gpus,run_time\n"),
            "trace:1: the columns 'duration' and 'run_time' both say duration" + head);
  EXPECT_EQ(error_of("submit,duration,gpus\n1506816000123,1,1\n1,2\n\n1,\"2,1\n"),
            "trace:2: submit: found '1506816000123', expected seconds or a date such as 2017-10-01 "
            "12:34:56; these look like milliseconds\n"
            "trace:3: found 2 fields, expected 3, as in the header\n"
            "trace:5: a quote is opened and not closed; expected its end in this record\n"
            "(--skip-bad leaves such lines out, and counts them)");
  EXPECT_EQ(error_of("submit,duration,gpus,memory,preemptible\n1,1,1,2 parsecs,\n1,1,1,,maybe\n")
                .substr(0, 22),
            "trace:2: memory: '2 pa");
  EXPECT_EQ(error_of(""),
            "trace: no job in it; expected a trace in the Standard Workload Format, "
            "or CSV with a header");
  EXPECT_EQ(read_trace(path("absent"), {}).error().code, ErrorCode::not_found);
}

TEST_F(TraceTest, FindingsAreLimitedAndCanBeSkipped) {
  std::string text = "submit,duration,gpus\n";
  for (int i = 0; i < 1000; ++i) text += i % 2 == 0 ? "1,2,3\n" : "1,2,x\n";
  const std::string error = error_of(text);
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 11) << error;
  EXPECT_NE(error.find("\nand more, not looked for\n"), std::string::npos);
  const Trace trace = read(text, {.skip_bad = true});
  EXPECT_EQ(trace.jobs.size(), 500u);
  EXPECT_EQ(trace.bad_lines, 500u);
}

TEST_F(TraceTest, ALineWithoutEndIsRefused) {
  const auto trace = read_trace(write_gzip("1 0 0 10 1\n" + std::string(8 << 20, ' ')), {});
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().code, ErrorCode::too_large);
  EXPECT_NE(trace.error().text.find("trace.gz:2: a line of over 64.0 KiB"), std::string::npos)
      << trace.error().text;
}

TEST(Values, Instants) {
  EXPECT_EQ(instant_ms("0"), 0);
  EXPECT_EQ(instant_ms("12.5"), 12'500);
  EXPECT_EQ(instant_ms("1970-01-02"), 86'400'000);
  EXPECT_EQ(instant_ms("1969-12-31 23:59:59.75Z"), -250);
  EXPECT_EQ(instant_ms("2017-10-03T16:31:02+00:00"), 1507048262000);
  EXPECT_EQ(instant_ms("2017/10/03 16:31"), 1507048260000);
  EXPECT_EQ(instant_ms("2017-10-03 18:31:02 +0200"), 1507048262000);
  EXPECT_EQ(instant_ms("2017-10-03 16:31:02 UTC"), 1507048262000);
  for (const char* wrong : {"", "x", "2017-13-01", "2017-02-29", "2017-10-03 24:00", "12:00",
                            "2017-10-03T", "2017-10-03 10:00:00 PST", "1e300", "inf", "0x10"})
    EXPECT_EQ(instant_ms(wrong), std::nullopt) << wrong;
}

TEST(Values, Lengths) {
  EXPECT_EQ(length_ms("90"), 90'000);
  EXPECT_EQ(length_ms("0.25"), 250);
  EXPECT_EQ(length_ms("1h30m"), 5400 * 1000);
  EXPECT_EQ(length_ms("100:00:01"), 360'001 * 1000);
  EXPECT_EQ(length_ms("2-01:00:00"), 49LL * 3600 * 1000);
  EXPECT_EQ(length_ms("2 days 01:00:00.5"), 49LL * 3600 * 1000 + 500);
  EXPECT_EQ(length_ms("1 day, 0:00:01"), 86'401'000);
  for (const char* wrong : {"", "x", "1:2", "00:60:00", "1-", "--1", "1 h", "00:00:00x"})
    EXPECT_EQ(length_ms(wrong), std::nullopt) << wrong;
}

// Foreign bytes: whatever comes, the reader answers with jobs within its limits, or an error that
// names the file; it neither ends the process nor reads outside (the sanitizers' builds see that).
TEST_F(TraceTest, GarbageIsReadOrRefused) {
  const std::string good[] = {
      "; MaxProcs: 128\n; UnixStartTime: 835466527\n1 10 5 100 4 90.5 2048 8 600 1024 1 3 2\n"
      "2 20 5 50.5 4 -1 -1 -1 -1 -1 0 -1 -1 -1 -1 -1 1 30\n",
      "user,duration,gpus,submit,priority,memory,vc,id,limit,preemptible,cpus\r\n"
      "\"a, \"\"b\"\"\",01:30:00,2,2020-03-01 00:00:30.5+01:00,5,2GiB,nlp,j1,1d,true,4\r\n"
      "c,1 days 02:03:04,0.25,1583013600,-1,,,j2,,0,1\r\n"};
  const std::string splice = "\"\n,;:-+.eE0123456789 \tTZ\xEF\xBB\xBF\x1f\x8b\xff";
  std::mt19937_64 random(7);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  int readable = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = good[below(2)];
    for (std::size_t changes = below(6); changes > 0 && !text.empty(); --changes) {
      const std::size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text[at] = splice[below(splice.size())];
          break;
        case 2:
          text.erase(at, 1 + below(8));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), below(40)));
      }
    }
    if (below(8) == 0) {
      text = *read_file(write_gzip(text));
      text[below(text.size())] = static_cast<char>(random());
    }
    const auto trace = read_trace(write(text), {.skip_bad = below(2) == 0});
    if (!trace) {
      ASSERT_NE(trace.error().text.find("trace"), std::string::npos) << trace.error().text;
      continue;
    }
    ++readable;
    std::int64_t before = 0;
    for (const Job& job : trace->jobs) {
      ASSERT_GE(job.submit_ms, before);
      ASSERT_LT(job.user, trace->users.size());
      ASSERT_LT(job.account, trace->accounts.size());
      ASSERT_TRUE(job.duration_ms >= 0 && job.duration_ms <= kLengthMsMax);
      ASSERT_TRUE(job.limit_ms >= 0 && job.limit_ms <= kLengthMsMax);
      ASSERT_LE(job.gpu_milli, 1'000'000'000'000u);
      before = job.submit_ms;
    }
  }
  EXPECT_GT(readable, 1000);
  EXPECT_LT(readable, 4000);
}

}  // namespace
}  // namespace loam::sim
