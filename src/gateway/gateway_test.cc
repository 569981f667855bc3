// The gateway's pure parts: routes, decoding, encoding, batches, halves, the loop. What needs
// workers and clients is tested with the real programs in tests/system/gateway.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <random>

#include "gateway/batch_queue.h"
#include "gateway/event_loop.h"
#include "gateway/half.h"
#include "gateway/infer.h"
#include "gateway/port.h"
#include "gateway/request_parser.h"
#include "gateway/route.h"

namespace loam::gateway {
namespace {

using channel::DType;

channel::Signature square() {
  channel::Signature signature;
  signature.inputs.push_back({"x", DType::fp32, {2}});
  signature.outputs.push_back({"y", DType::int64, {}});
  return signature;
}

HttpRequest request_of(std::string body) {
  HttpRequest request;
  request.body = std::move(body);
  return request;
}

TEST(Route, KnowsTheProtocolsPaths) {
  EXPECT_EQ(parse_route("/v2")->resource, Resource::server);
  EXPECT_EQ(parse_route("/v2/")->resource, Resource::server);
  EXPECT_EQ(parse_route("/v2/health/live")->resource, Resource::live);
  EXPECT_EQ(parse_route("/v2/health/ready?verbose=1")->resource, Resource::ready);
  EXPECT_EQ(parse_route("/v2/models/a%20b")->name, "a b");
  const auto infer = parse_route("/v2/models/m/versions/3/infer");
  EXPECT_EQ(infer->resource, Resource::infer);
  EXPECT_EQ(infer->version, "3");
  EXPECT_EQ(parse_route("/v2/models/m/ready")->resource, Resource::model_ready);
  for (const char* none :
       {"", "/", "v2", "/v1", "/v2x", "/v2/models", "/v2/models/", "/v2/models/m/x",
        "/v2/models/m/versions", "/v2/models/m/infer/x", "/v2/health", "*"})
    EXPECT_FALSE(parse_route(none)) << none;
}

TEST(Infer, DecodesJsonAndBinaryToTheSameRows) {
  const HttpRequest json = request_of(
      R"({"id":"a","inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,4.5]]}]})");
  const auto decoded = decode_infer(json, square(), 4);
  ASSERT_TRUE(decoded) << decoded.error().text;
  EXPECT_EQ(decoded->rows, 2u);
  EXPECT_EQ(decoded->id, "a");
  const float expected[] = {1, 2, 3, 4.5f};
  ASSERT_EQ(decoded->inputs[0].size(), sizeof expected);
  EXPECT_EQ(std::memcmp(decoded->inputs[0].data(), expected, sizeof expected), 0);

  HttpRequest binary = request_of(
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]})");
  binary.inference_header = std::to_string(binary.body.size());
  binary.body.append(reinterpret_cast<const char*>(expected), sizeof expected);
  const auto same = decode_infer(binary, square(), 4);
  ASSERT_TRUE(same) << same.error().text;
  EXPECT_EQ(std::memcmp(same->inputs[0].data(), expected, sizeof expected), 0);
  // Binary tensors are not copied on the way: they lie in the body.
  EXPECT_EQ(reinterpret_cast<const char*>(same->inputs[0].data()),
            binary.body.data() + binary.body.size() - 16);
}

TEST(Infer, EncodesWhatWasAskedFor) {
  InferRequest request;
  request.rows = 2;
  request.outputs = {{0, false}};
  const std::int64_t values[] = {-7, 9};
  const auto text =
      encode_infer({"m", "3"}, square(), request, {reinterpret_cast<const std::byte*>(values)});
  EXPECT_EQ(
      text.body,
      R"({"model_name":"m","model_version":"3","outputs":[{"name":"y","datatype":"INT64","shape":[2],"data":[-7,9]}]})");
  EXPECT_FALSE(text.inference_header);
  request.outputs = {{0, true}};
  const auto binary =
      encode_infer({"m", "3"}, square(), request, {reinterpret_cast<const std::byte*>(values)});
  ASSERT_TRUE(binary.inference_header);
  EXPECT_EQ(binary.body.size(), *binary.inference_header + sizeof values);
  EXPECT_EQ(std::memcmp(binary.body.data() + *binary.inference_header, values, sizeof values), 0);
}

// Whatever bytes come, decoding ends with a request whose rows fit or with an error; run it under
// asan.
TEST(Infer, SurvivesMutatedRequests) {
  const std::string head =
      R"({"id":"a","inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2,3,4],"parameters":{"binary_data_size":16}}],"outputs":[{"name":"y"}]})";
  std::mt19937 random(20240607);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    HttpRequest request = request_of(head + std::string(16, 'b'));
    for (unsigned n = random() % 4; n > 0; --n)
      request.body[random() % request.body.size()] = static_cast<char>(random() % 256);
    if (random() % 2 == 0) request.body.erase(random() % request.body.size(), random() % 40);
    if (random() % 2 == 0)
      request.inference_header = std::to_string(random() % (request.body.size() + 2));
    const auto decoded = decode_infer(request, square(), 4);
    if (!decoded) continue;
    ++accepted;
    ASSERT_LE(decoded->rows, 4u);
    ASSERT_EQ(decoded->inputs.at(0).size(), decoded->rows * 8u);
  }
  SUCCEED() << accepted;
}

TEST(Half, AgreesWithTheStandardBothWays) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_of_half(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(half_of_float(value), bits);
  }
  EXPECT_EQ(float_of_half(0x3C00), 1.0f);
  EXPECT_EQ(float_of_half(0x0001), 0x1p-24f);
  EXPECT_EQ(half_of_float(65519.0f), 0x7BFF);         // rounds down to the largest
  EXPECT_EQ(half_of_float(65520.0f), 0x7C00);         // and up to infinity
  EXPECT_EQ(half_of_float(1.0f + 0x1p-11f), 0x3C00);  // a tie, to even
  EXPECT_EQ(half_of_float(1.0f + 0x3p-11f), 0x3C02);
}

class BatchTest : public testing::Test {
 protected:
  ExchangePtr exchange() {
    return std::make_shared<Exchange>(trace::RequestId{}, [](Exchange&, const HttpResponse&) {});
  }
  const Exchange* add(std::uint32_t rows, std::int64_t deadline_ns = 1'000'000,
                      std::int64_t arrived_ns = 0) {
    auto job = std::make_unique<Job>();
    job->arrived_ns = arrived_ns;
    job->exchange = exchange();
    job->infer.rows = rows;
    job->deadline_ns = deadline_ns;
    const Exchange* raw = job->exchange.get();
    queue_.push(std::move(job));
    return raw;
  }
  std::vector<std::uint32_t> close() {
    std::vector<std::uint32_t> rows;
    for (const JobPtr& job : queue_.close_batch()) rows.push_back(job->infer.rows);
    return rows;
  }
  BatchQueue queue_;
};

using Rows = std::vector<std::uint32_t>;

TEST_F(BatchTest, ClosesAtOnceWhereNothingIsOnItsWay) {
  queue_.configure(8, 1000);
  EXPECT_FALSE(queue_.decide(0).close);
  add(1);
  EXPECT_TRUE(queue_.decide(0).close);
  EXPECT_EQ(close(), Rows{1});
}

TEST_F(BatchTest, NeverSplitsNorOvertakes) {
  queue_.configure(8, 0);
  for (const std::uint32_t rows : {3u, 3u, 5u, 1u, 8u}) add(rows);
  EXPECT_EQ(close(), (Rows{3, 3}));
  EXPECT_EQ(close(), (Rows{5, 1}));
  EXPECT_EQ(close(), (Rows{8}));
  EXPECT_EQ(close(), Rows{});
}

TEST_F(BatchTest, WhatCameBeforeStandsBefore) {
  queue_.configure(8, 0);
  for (const std::uint32_t arrived : {2u, 4u, 4u, 1u, 3u}) add(arrived, 1'000'000, arrived);
  EXPECT_EQ(close(), (Rows{1, 2, 3}));
}

TEST_F(BatchTest, WaitsForAClaimAtMostTheDelayAndOnlyOnce) {
  queue_.configure(8, 1000);
  const ExchangePtr slow = exchange();
  queue_.claim(slow.get());
  add(1);
  EXPECT_FALSE(queue_.decide(500).close);
  EXPECT_EQ(queue_.decide(600).wait_until_ns, 1500);
  EXPECT_TRUE(queue_.decide(1500).close);
  EXPECT_EQ(close(), Rows{1});
  add(1);
  EXPECT_TRUE(queue_.decide(1600).close);  // the claim is void
}

TEST_F(BatchTest, AFullBatchOrAnArrivedClaimDoesNotWait) {
  queue_.configure(4, 1000);
  const ExchangePtr slow = exchange();
  queue_.claim(slow.get());
  add(4);
  EXPECT_TRUE(queue_.decide(0).close);
  EXPECT_EQ(close(), Rows{4});
  add(3);
  EXPECT_FALSE(queue_.decide(0).close);
  add(2);  // does not fit beside the first: that batch is as full as it will get
  EXPECT_TRUE(queue_.decide(1).close);
  EXPECT_EQ(close(), Rows{3});
  EXPECT_FALSE(queue_.decide(2).close);
  queue_.unclaim(slow.get());
  EXPECT_TRUE(queue_.decide(3).close);
}

TEST_F(BatchTest, ForgetsTheVanishedAndTheOverdue) {
  queue_.configure(8, 0);
  add(1, 100);
  const Exchange* gone = add(2, 200);
  add(3, 300);
  EXPECT_EQ(queue_.remove(gone)->infer.rows, 2u);
  EXPECT_EQ(queue_.remove(gone), nullptr);
  EXPECT_EQ(queue_.remove_overdue(250).size(), 1u);
  EXPECT_EQ(close(), Rows{3});
}

TEST(Exchange, IsAnsweredOnceAndNeverDroppedSilently) {
  int status = 0;
  {
    Exchange exchange({},
                      [&](Exchange&, const HttpResponse& response) { status = response.status; });
    EXPECT_FALSE(exchange.answered());
  }
  EXPECT_EQ(status, 500);
  Exchange exchange({}, [&](Exchange&, const HttpResponse& response) { status = response.status; });
  exchange.answer(error_response(429, "later"));
  EXPECT_EQ(status, 429);
  EXPECT_DEATH(exchange.answer({}), "answered_");
}

TEST(RequestParser, RefusesTwoLengths) {
  const std::string head =
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
  RequestParser parser(1024, 1024);
  (void)parser.put_head(head);
  EXPECT_EQ(parser.refusal().status, 400);
}

TEST(EventLoop, DropsEventsOfWhatWasRemoved) {
  EventLoop loop = *EventLoop::create();
  const Fd first(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  const Fd second(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  int calls = 0;
  // Both are readable in one turn; whoever is called first removes both.
  const auto on_events = [&](std::uint32_t) {
    ++calls;
    loop.remove(first.get());
    loop.remove(second.get());
    loop.later([&] { loop.stop(); });
  };
  ASSERT_TRUE(loop.add(first.get(), EPOLLIN, on_events));
  ASSERT_TRUE(loop.add(second.get(), EPOLLIN, on_events));
  loop.run();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, FiresTimersInOrderAndForgetsCancelledOnes) {
  EventLoop loop = *EventLoop::create();
  std::string order;
  loop.after(std::chrono::milliseconds(2), [&] { loop.stop(); });
  loop.after(std::chrono::milliseconds(1), [&] { order += 'b'; });
  loop.after(Nanoseconds(0), [&] { order += 'a'; });
  auto cancelled = loop.after(Nanoseconds(0), [&] { order += 'x'; });
  loop.cancel(cancelled);
  loop.run();
  EXPECT_EQ(order, "ab");
}

TEST(Port, ATakenOneIsSaidToBe) {
  const auto first = listen_on("127.0.0.1:0");
  ASSERT_TRUE(first);
  const auto second = listen_on(first->address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::exists);
  for (const char* wrong :
       {"", "8000", "localhost", "1.2.3:80", "127.0.0.1:x", "127.0.0.1:70000", "[::1:80", "a.b:80"})
    EXPECT_EQ(listen_on(wrong).error().code, ErrorCode::invalid) << wrong;
}

}  // namespace
}  // namespace loam::gateway
