#include "boxes/unavailable.h"

#include "base/json.h"

namespace loam::boxes {

std::string unavailable_answer(std::string_view text) {
  const std::string body =
      Json::object({{"error", Json::object({{"code", "unavailable"}, {"text", text}})}}).dump();
  return "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: "
         "close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace loam::boxes
