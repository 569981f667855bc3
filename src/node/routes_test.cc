#include "node/routes.h"

#include <gtest/gtest.h>

#include "node/http_wire.h"
#include "node/rights.h"

namespace loam::node {
namespace {

struct Recorder : Responder {
  int status = 0;
  Json body;
  std::string headers;
  void header(std::string_view name, std::string_view value) override {
    headers += std::string(name) + ": " + std::string(value) + "\n";
  }
  void reply(int code, const Json& document) override { status = code, body = document; }
  void reply_error(const Error& error) override {
    status = status_of(error.code);
  }
  void start_stream(std::string_view) override {}
  void write(std::string_view) override {}
  std::size_t pending_bytes() const override { return 0; }
  void on_drained(std::function<void()>) override {}
  void end_stream() override {}
  void upgrade(std::string_view, std::function<void(Fd)>) override {}
  void on_closed(std::function<void()>) override {}
};

class RoutesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* pattern : {"/v1/runs", "/v1/runs/:id", "/v1/runs/:id/events",
                                "/v1/logs/*target", "/v1/models/:name", "/v1/models/import"})
      routes_.add("GET", pattern,
                  [this, pattern](const Request&, const Routes::Params& params, ResponderPtr) {
                    called_ = pattern;
                    params_ = params;
                  });
  }
  int ask(const std::string& method, const std::string& path) {
    called_.clear();
    Request request;
    request.method = method;
    request.path = path;
    request.caller.scope = Scope::admin;
    auto recorder = std::make_shared<Recorder>();
    routes_.dispatch(request, recorder);
    headers_ = recorder->headers;
    return recorder->status;
  }
  Routes routes_;
  std::string called_, headers_;
  Routes::Params params_;
};

TEST_F(RoutesTest, FindsTheMostExactPattern) {
  ask("GET", "/v1/runs/17/events");
  EXPECT_EQ(called_, "/v1/runs/:id/events");
  EXPECT_EQ(params_["id"], "17");
  ask("GET", "/v1/logs/17/train/2");
  EXPECT_EQ(params_["target"], "17/train/2");
  ask("GET", "/v1/models/import");
  EXPECT_EQ(called_, "/v1/models/import");
  ask("GET", "/v1/models/digits@3");
  EXPECT_EQ(params_["name"], "digits@3");
}

TEST_F(RoutesTest, SaysWhatItDoesNotKnow) {
  EXPECT_EQ(ask("GET", "/v1/nothing"), 404);
  EXPECT_EQ(ask("GET", "/v1/runs/"), 404);
  EXPECT_EQ(ask("GET", "/v1/logs"), 404);
  EXPECT_EQ(ask("GET", ""), 404);
  EXPECT_EQ(ask("DELETE", "/v1/runs/1"), 405);
  EXPECT_EQ(headers_, "allow: GET\n");
  EXPECT_TRUE(called_.empty());
}

TEST_F(RoutesTest, HoldsRequestsAgainstTheirDescription) {
  Request request;
  request.method = "POST";
  request.path = "/v1/cancel";
  request.caller.scope = Scope::admin;
  routes_.add("POST", "/v1/cancel",
              [this](const Request&, const Routes::Params&, ResponderPtr) { called_ = "cancel"; });
  const auto sent = [&](std::string_view body) {
    called_.clear();
    request.body = body.empty() ? Json() : *Json::parse(body);
    auto recorder = std::make_shared<Recorder>();
    routes_.dispatch(request, recorder);
    return called_.empty() ? recorder->status : 0;
  };
  EXPECT_EQ(sent(R"({"target": "17"})"), 0);
  EXPECT_EQ(sent(R"({"target": "17", "of": "a newer client"})"), 0);
  for (const char* wrong : {"", "[]", "3", "{}", R"({"target": 17})", R"({"target": null})"})
    EXPECT_EQ(sent(wrong), 400) << wrong;
  EXPECT_EQ(routes_.names().back(), "POST /v1/cancel");
}

TEST_F(RoutesTest, WhoIsNotFilledInGetsNothing) {
  Request request;
  request.method = "GET";
  request.path = "/v1/runs";
  auto recorder = std::make_shared<Recorder>();
  routes_.dispatch(request, recorder);
  EXPECT_TRUE(called_.empty());
  EXPECT_EQ(recorder->status, 403);

  const Caller nobody;
  const Identity system, own{.rootless = true};
  EXPECT_FALSE(is_root(system, nobody));
  EXPECT_FALSE(is_admin(system, {}, nobody));
  EXPECT_FALSE(is_admin(system, {.groups = {0}, .users = {0}}, nobody));
  EXPECT_FALSE(is_owner(system, nobody));
  EXPECT_FALSE(is_owner(own, nobody));
}

}  // namespace
}  // namespace loam::node
