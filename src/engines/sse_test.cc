#include "engines/sse.h"

#include <gtest/gtest.h>

namespace loam::engines {
namespace {

TEST(Sse, EventsHoweverTheBytesAreCut) {
  const std::string stream =
      ": hello\r\nevent: run\r\ndata: {\"state\":\"running\"}\r\n\r\n"
      "event: env\ndata: {\"done\":1,\ndata: \"total\":2}\n\nid: 7\nretry: 5\ndata:\"plain\"\n\n";
  for (std::size_t size = 1; size <= stream.size(); ++size) {
    SseParser parser;
    std::vector<Event> events;
    for (std::size_t at = 0; at < stream.size(); at += size) {
      auto some = parser.add(std::string_view(stream).substr(at, size));
      ASSERT_TRUE(some) << some.error().text;
      events.insert(events.end(), some->begin(), some->end());
    }
    ASSERT_EQ(events.size(), 3u) << size;
    EXPECT_EQ(events[0].kind, "run");
    EXPECT_EQ(events[0].data["state"].as_string(), "running");
    EXPECT_EQ(events[1].kind, "env");
    EXPECT_EQ(events[1].data["total"].as_int(), 2);
    EXPECT_EQ(events[2].kind, "message");
    EXPECT_EQ(events[2].data.as_string(), "plain");
  }
}

TEST(Sse, AnEventWithoutItsEndIsNone) {
  SseParser parser;
  EXPECT_TRUE(parser.add("event: run\ndata: {}")->empty());
  EXPECT_TRUE(parser.add("\n")->empty());
  EXPECT_EQ(parser.add("\n")->size(), 1u);
  EXPECT_TRUE(parser.add("event: run\n\n")->empty()) << "an event without data is none";
  EXPECT_EQ(parser.add("data: 1\n\n")->at(0).kind, "message") << "its kind must not go to the next";
}

TEST(Sse, DataThatIsNoJsonIsAnError) {
  SseParser parser;
  const auto events = parser.add("event: run\ndata: {half\n\n");
  ASSERT_FALSE(events);
}

TEST(Sse, EndlessEventsAreRefused) {
  SseParser line;
  const std::string piece(1 << 20, 'x');
  Result<std::vector<Event>> last;
  for (int i = 0; i < 6 && last; ++i) last = line.add(piece);
  EXPECT_FALSE(last) << "a line without an end";

  SseParser lines;
  last = std::vector<Event>{};
  for (int i = 0; i < 6 && last; ++i) last = lines.add("data: " + piece + "\n");
  EXPECT_FALSE(last) << "data without an end";
}

}  // namespace
}  // namespace loam::engines
