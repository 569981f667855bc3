// Server-sent events (HTML Living Standard, 9.2.6): a stream of bytes → events, however it is cut.
//
// Trust: foreign bytes; an event over kEventBytesMax is an error, after which the stream must be
// closed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::engines {

inline constexpr std::size_t kEventBytesMax = 4u << 20;

struct Event {
  std::string kind = "message";
  Json data;
};

class SseParser {
 public:
  // Events that are whole with these bytes. An event whose data is no JSON is an error.
  Result<std::vector<Event>> add(std::string_view bytes);

 private:
  void take_line(std::string_view line);
  Result<void> end_event(std::vector<Event>& events);

  std::string line_;  // begun, not ended
  std::string kind_;
  std::string data_;
  bool after_return_ = false;  // the last byte was \r: a \n that follows belongs to it
};

}  // namespace loam::engines
