#include "trace/records.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <limits>

#include "base/files.h"

namespace loam::trace {
namespace {

class Records : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/dev/shm/loam-trace-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    store_ = std::move(*store::Store::open(folder_ + "/store"));
  }
  void TearDown() override {
    store_.reset();
    (void)remove_tree(folder_);
  }

  std::string put(const Json& record) {
    const auto digest = store_->put_record(record);
    EXPECT_TRUE(digest.has_value()) << digest.error().text;
    return digest ? digest->hex() : "";
  }
  static std::vector<std::string> kinds(const std::vector<Layer>& layers) {
    std::vector<std::string> result;
    for (const Layer& layer : layers) result.push_back(layer.kind);
    return result;
  }

  std::string folder_;
  std::unique_ptr<store::Store> store_;
};

TEST(Fractions, BecomeTheShortestTextThatReadsBack) {
  const Json value = Json::object({{"a", 0.1},
                                   {"b", Json::array({1.0, 2, "x", 1e300})},
                                   {"c", std::numeric_limits<double>::infinity()},
                                   {"big", std::int64_t{1} << 60}});
  EXPECT_EQ(with_fractions_as_strings(value).dump(),
            R"({"a":"0.1","b":["1.0",2,"x","1e+300"],"big":"1152921504606846976","c":"inf"})");
}

TEST_F(Records, AreDocumentsThatTheStoreTakes) {
  RunFacts facts;
  facts.run = 17;
  facts.step = "train";
  facts.params = Json::object({{"lr", 0.5}});
  facts.metrics = Json::object({{"loss", Json::object({{"last", 0.25}, {"count", 9}})}});
  facts.secrets = {"HF_TOKEN"};
  facts.host =
      put(host_record(Json::object({{"cpu", Json::object({{"mhz", 2.5}})}}), Json::array()));
  const Json record = store_->get_record(Digest::parse(put(run_record(facts))).value()).value();
  EXPECT_EQ(record["record"].as_string(), "run");
  EXPECT_EQ(record["version"].as_int(), 1);
  EXPECT_EQ(record["params"]["lr"].as_string(), "0.5");
  EXPECT_EQ(record["metrics"]["loss"]["last"].as_string(), "0.25");
  EXPECT_EQ(record["secrets"].as_strings(), std::vector<std::string>{"HF_TOKEN"});
  EXPECT_TRUE(record["env"].is_null());
  EXPECT_TRUE(record["vars"].is_object());
}

TEST_F(Records, AreFollowedFromTheReplicaDownEachOnce) {
  const std::string host = put(host_record(Json::object(), Json::array()));
  const std::string env = put(env_record(Json::object({{"base", "host"}}), ""));
  const std::string code = put(code_record("00", 3, 100));
  const std::string serving = put(code_record("11", 3, 100));
  const std::string first_data = put(data_record("a", Json::object()));
  const std::string second_data = put(data_record("b", Json::object()));
  RunFacts base_run{
      .run = 1, .step = "pretrain", .env = env, .code = code, .host = host, .data = {first_data}};
  const std::string base =
      put(model_record({.model = "base", .version = 1, .run = put(run_record(base_run))}));
  RunFacts run{.run = 2,
               .step = "tune",
               .env = env,
               .code = code,
               .host = host,
               .data = {second_data, first_data},
               .upstream = {base}};
  const std::string model =
      put(model_record({.model = "digits", .version = 3, .run = put(run_record(run))}));
  const std::string replica = put(replica_record(
      {.service = "digits", .model = model, .env = env, .code = serving, .host = host}));
  const auto layers = follow(*store_, Digest::parse(replica).value()).value();
  EXPECT_EQ(kinds(layers),
            (std::vector<std::string>{"replica", "model", "run", "model", "run", "data", "data",
                                      "code", "code", "env", "host"}));
  EXPECT_EQ(layers[1].record["model"].as_string(), "digits");
  EXPECT_EQ(layers[1].record["number"].as_int(), 3);
  EXPECT_EQ(layers[3].record["model"].as_string(), "base");
  for (const Layer& layer : layers) EXPECT_EQ(sha256_of(layer.record.dump()).hex(), layer.digest);
}

TEST_F(Records, AResumedRunLeadsToTheAttemptsBefore) {
  const std::string first =
      put(run_record({.run = 1, .step = "train", .outcome = "preempted", .attempt = 1}));
  const std::string second = put(run_record({.run = 1,
                                             .step = "train",
                                             .outcome = "exited",
                                             .attempt = 2,
                                             .checkpoint = "checkpoint-30",
                                             .resumes = first}));
  const auto layers = follow(*store_, Digest::parse(second).value()).value();
  ASSERT_EQ(kinds(layers), (std::vector<std::string>{"run", "run"}));
  EXPECT_EQ(layers[0].record["checkpoint"].as_string(), "checkpoint-30");
  EXPECT_EQ(layers[1].record["outcome"].as_string(), "preempted");
  EXPECT_TRUE(layers[1].record["checkpoint"].is_null());
}

TEST_F(Records, AnImportedModelEndsTheChain) {
  const std::string model =
      put(model_record({.model = "m", .version = 1, .imported_from = "/home/ana/m"}));
  const auto layers = follow(*store_, Digest::parse(model).value()).value();
  EXPECT_EQ(kinds(layers), std::vector<std::string>{"model"});
  EXPECT_EQ(layers[0].record["imported_from"].as_string(), "/home/ana/m");
}

TEST_F(Records, AMissingRecordIsALayerWithoutContentAMissingTopAnError) {
  const std::string model =
      put(model_record({.model = "m", .version = 1, .run = sha256_of("gone").hex()}));
  const auto layers = follow(*store_, Digest::parse(model).value()).value();
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_TRUE(layers[1].record.is_null());
  EXPECT_EQ(follow(*store_, sha256_of("gone")).error().code, ErrorCode::not_found);
  EXPECT_FALSE(follow(*store_, store_->put_blob("{}").value()).has_value());
}

}  // namespace
}  // namespace loam::trace
