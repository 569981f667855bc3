#include "engines/sse.h"

#include <utility>

namespace loam::engines {

// "field: value"; fields other than event and data (id, retry, comments) mean nothing here.
void SseParser::take_line(std::string_view line) {
  const auto colon = line.find(':');
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "event") kind_ = value;
  if (field == "data") {
    data_ += value;
    data_ += '\n';
  }
}

Result<void> SseParser::end_event(std::vector<Event>& events) {
  Event event;
  if (!kind_.empty()) event.kind = std::exchange(kind_, {});
  if (data_.empty()) return {};  // the standard: without data there is no event
  data_.pop_back();
  auto data = Json::parse(std::exchange(data_, {}));
  if (!data) return in_context("an event of the node", std::move(data.error()));
  event.data = std::move(*data);
  events.push_back(std::move(event));
  return {};
}

Result<std::vector<Event>> SseParser::add(std::string_view bytes) {
  std::vector<Event> events;
  for (const char c : bytes) {
    const bool second_half = std::exchange(after_return_, c == '\r') && c == '\n';
    if (second_half) continue;
    if (c != '\n' && c != '\r') {
      line_ += c;
      if (line_.size() + data_.size() > kEventBytesMax)
        return fail(ErrorCode::corrupt,
                    "an event of the node is over " + std::to_string(kEventBytesMax) + " bytes");
      continue;
    }
    if (line_.empty()) {
      LOAM_CHECK(end_event(events));
    } else {
      take_line(std::exchange(line_, {}));
    }
  }
  return events;
}

}  // namespace loam::engines
