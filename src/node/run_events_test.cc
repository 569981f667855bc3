#include "node/run_events.h"

#include "node/committed_responder.h"
#include "node/database_fixture.h"

namespace loam::node {
namespace {

// What the server does with a stream: nothing before its head.
class Stream : public Responder {
 public:
  void header(std::string_view, std::string_view) override {}
  void reply(int, const Json&) override {}
  void reply_error(const Error&) override {}
  void start_stream(std::string_view) override { begun = true; }
  void write(std::string_view bytes) override {
    if (begun) text += bytes;
  }
  std::size_t pending_bytes() const override { return 0; }
  void on_drained(std::function<void()>) override {}
  void end_stream() override { ended = begun; }
  void upgrade(std::string_view, std::function<void(Fd)>) override {}
  void on_closed(std::function<void()>) override {}

  bool begun = false, ended = false;
  std::string text;
};

class RunEventsTest : public DatabaseTest {
 protected:
  static Json state(const std::string& name) { return Json::object({{"state", name}}); }
};

// Events added and a follower come within one turn: seen as a `loam up` that printed only its end.
TEST_F(RunEventsTest, AFollowerWhoComesInATurnThatAddsLosesNothing) {
  RunEvents events(*database_);
  events.add(1, "run", state("preparing"));
  ASSERT_TRUE(database_->commit_turn());
  const auto stream = std::make_shared<Stream>();
  events.add(1, "run", state("running"));
  events.follow(1, committed(*database_, stream), false);
  ASSERT_TRUE(database_->commit_turn());
  EXPECT_EQ(stream->text, sse_text("run", state("preparing")) + sse_text("run", state("running")));
}

TEST_F(RunEventsTest, AFollowerWhoComesInTheTurnThatSettlesGetsAllAndTheEnd) {
  RunEvents events(*database_);
  const auto stream = std::make_shared<Stream>();
  events.add(1, "run", state("succeeded"));
  events.settle(1);
  events.follow(1, committed(*database_, stream), false);
  events.settle(1);
  ASSERT_TRUE(database_->commit_turn());
  EXPECT_EQ(stream->text, sse_text("run", state("succeeded")));
  EXPECT_TRUE(stream->ended);
}

}  // namespace
}  // namespace loam::node
