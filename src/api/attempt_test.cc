#include "api/attempt.h"

#include <gtest/gtest.h>

#include "api/attach.h"

namespace loam::api {
namespace {

AttemptPlan full_plan() {
  AttemptPlan plan;
  plan.attempt = "42";
  plan.folder = "/state/attempts/42";
  plan.argv = {"python3", "train.py"};
  plan.environment = {{"B", "2"}, {"A", "1"}};
  plan.secrets_file = "/state/secrets/42";
  plan.groups = {4, 20};
  plan.root = RootKind::tree;
  plan.root_tree = "/store/tree";
  plan.scratch = Scratch::disk;
  plan.project_owner = Owner::root_is_user;
  plan.binds = {{"/data", "/data", true, Owner::root_is_user, true}};
  plan.files = {{"/etc/passwd", "a:x:1:1::/:\n"}};
  plan.network = Network::none;
  plan.cgroup = {"/sys/fs/cgroup/loam/42", {{"memory", "/sys/fs/cgroup/memory/loam/42"}}};
  plan.devices = {{"/dev/nvidia0", false, 195, 0}, {"/dev/nvme0", true, 259, 1}};
  plan.missing = {{"gpu-share", "in 2 time slices"}};
  plan.device_locks = {{"GPU-1", {"char-195-0.0", "char-195-0.1"}, 2, true}};
  plan.device_lock_folder = "/run/lock/loam";
  plan.device_lock_owner = "alice's node";
  plan.cpus = {2, 3};
  plan.memory_nodes = {1};
  plan.pinned = true;
  plan.huge_page_bytes = 2u << 20;
  plan.huge_bytes = 64u << 20;
  plan.memory_bytes = 1u << 30;
  plan.time_limit_ms = 3'600'000;
  plan.checkpoint_signal = 10;
  plan.checkpoint_grace_ms = 30'000;
  plan.terminal = true;
  plan.require = {"memory"};
  return plan;
}

TEST(AttemptPlan, SurvivesItsDocument) {
  const Json document = to_json(full_plan());
  const auto read = attempt_plan_from(Json::parse(document.dump()).value());
  ASSERT_TRUE(read.has_value()) << read.error().text;
  EXPECT_EQ(to_json(*read), document);
  EXPECT_EQ(read->environment[0].first, "B") << "the order of the environment is kept";
  EXPECT_EQ(read->binds[0].owner, Owner::root_is_user);
  EXPECT_EQ(read->devices[1].path, "/dev/nvme0");
  EXPECT_EQ(read->device_locks[0].names.size(), 2U);
  EXPECT_EQ(read->missing[0].guard, "gpu-share");
  EXPECT_EQ(read->cpus, (std::vector<std::uint32_t>{2, 3}));
}

TEST(AttemptPlan, WrongDocumentsNameTheKey) {
  const auto error_with = [](const char* key, Json value) {
    Json document = to_json(full_plan());
    document.set(key, std::move(value));
    const auto read = attempt_plan_from(document);
    return read ? std::string() : read.error().text;
  };
  EXPECT_NE(error_with("uid", 0).find("no job runs as 0"), std::string::npos);
  EXPECT_NE(error_with("uid", -1).find("uid"), std::string::npos);
  EXPECT_NE(error_with("uid", std::int64_t{1} << 40).find("uid"), std::string::npos);
  EXPECT_NE(error_with("version", 1).find("version 1"), std::string::npos);
  EXPECT_NE(error_with("argv", Json::array()).find("argv"), std::string::npos);
  EXPECT_NE(error_with("network", "wild").find("wild"), std::string::npos);
  EXPECT_NE(error_with("environment", Json::array({"A=1"})).find("environment"), std::string::npos);
  EXPECT_NE(error_with("files", Json::array({Json::object({{"path", "etc"}, {"content", ""}})}))
                .find("absolute"),
            std::string::npos);
  const auto device = [](const char* path) {
    return Json::array(
        {Json::object({{"path", path}, {"block", false}, {"major", 1}, {"minor", 3}})});
  };
  EXPECT_NE(error_with("devices", device("/etc/passwd")).find("below /dev"), std::string::npos);
  EXPECT_NE(error_with("devices", device("/dev/../etc/x")).find("below /dev"), std::string::npos);
  EXPECT_NE(error_with("device_locks", Json::array({Json::object({{"device", "x"},
                                                                  {"names", Json::array({"../x"})},
                                                                  {"count", 1},
                                                                  {"shared", false}})}))
                .find("names of files"),
            std::string::npos);
  EXPECT_NE(error_with("terminal", "yes").find("terminal"), std::string::npos);
}

TEST(ExitRecord, SurvivesItsDocument) {
  ExitRecord record;
  record.attempt = "42";
  record.outcome = Outcome::out_of_memory;
  record.signal = 9;
  record.device = "camera-0";
  record.error = "out of memory";
  record.memory_peak_bytes = 1u << 30;
  record.cpu_ns = 12'345'678'901;
  record.missing = {{"devices", "no cgroup v2"}};
  const auto read = exit_record_from(Json::parse(to_json(record).dump()).value());
  ASSERT_TRUE(read.has_value()) << read.error().text;
  EXPECT_EQ(to_json(*read), to_json(record));
}

// A shim outlives an upgrade, so a record as the first release wrote it is read forever: keys that
// came later may be missing, and those of a newer shim are passed over.
TEST(ExitRecord, OfTheFirstReleaseAndOfANewerOneAreRead) {
  const std::string first =
      R"({"attempt":"4","code":3,"cpu_ns":3596000,"ended_ms":1795590519779,"error":"",)"
      R"("memory_limit_bytes":33554432,"memory_peak_bytes":524288,"missing":[],"outcome":"exited",)"
      R"("signal":0,"started_ms":1795590519752)";
  for (const std::string& text :
       {first + "}", first + R"(,"of_a_newer_shim":{"a":[1]},"another":null})"}) {
    const auto record = exit_record_from(Json::parse(text).value());
    ASSERT_TRUE(record) << record.error().text;
    EXPECT_EQ(record->outcome, Outcome::exited);
    EXPECT_EQ(record->code, 3);
    EXPECT_EQ(record->ended_ms, 1795590519779);
  }
}

TEST(ExitRecord, EveryOutcomeHasAName) {
  for (const Outcome outcome :
       {Outcome::exited, Outcome::signaled, Outcome::timed_out, Outcome::cancelled,
        Outcome::out_of_memory, Outcome::failed_to_start, Outcome::unkillable, Outcome::lost,
        Outcome::device_busy, Outcome::preempted})
    EXPECT_EQ(outcome_from(outcome_name(outcome)).value(), outcome);
  EXPECT_FALSE(outcome_from("finished").has_value());
}

TEST(AttachFrames, ComeOutAsTheyWentInHoweverTheyAreCut) {
  const std::string stream =
      encode_frame(AttachFrame::input, "hello") + encode_frame(AttachFrame::input, "") +
      encode_frame(AttachFrame::output, std::string(kAttachPayloadBytesMax, 'x'));
  FrameReader reader;
  std::vector<Frame> frames;
  for (std::size_t at = 0; at < stream.size(); at += 7) {
    reader.add(std::string_view(stream).substr(at, 7));
    for (auto frame = reader.next(); frame && *frame; frame = reader.next())
      frames.push_back(std::move(**frame));
  }
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].payload, "hello");
  EXPECT_EQ(frames[1].payload, "");
  EXPECT_EQ(frames[2].type, AttachFrame::output);
  EXPECT_EQ(frames[2].payload.size(), kAttachPayloadBytesMax);
}

TEST(AttachFrames, UnknownTypesAndGreatLengthsAreErrors) {
  for (const std::string& bytes :
       {std::string("\0\0\0\0\0", 5), std::string("\7\0\0\0\0", 5), std::string("\1\1\0\1\0", 5),
        std::string("\1\xff\xff\xff\xff", 5)}) {
    FrameReader reader;
    reader.add(bytes);
    EXPECT_FALSE(reader.next().has_value());
  }
}

}  // namespace
}  // namespace loam::api
