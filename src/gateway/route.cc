#include "gateway/route.h"

#include <vector>

#include "base/text.h"

namespace loam::gateway {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// RFC 3986, 2.1. A broken escape stays as it is: it then names nothing.
std::string decode_percent(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 &&
                        hex_value(text[i + 2]) >= 0;
    out +=
        escape ? static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2])) : text[i];
    if (escape) i += 2;
  }
  return out;
}

}  // namespace

std::optional<Route> parse_route(std::string_view target) {
  target = target.substr(0, target.find_first_of("?#"));
  if (target.size() > 1 && target.back() == '/') target.remove_suffix(1);
  const std::vector<std::string> parts = split(target, '/');
  if (parts.size() < 2 || !parts[0].empty() || parts[1] != "v2") return std::nullopt;
  if (parts.size() == 2) return Route{};
  if (parts[2] == "health" && parts.size() == 4) {
    if (parts[3] == "live") return Route{.resource = Resource::live};
    if (parts[3] == "ready") return Route{.resource = Resource::ready};
    return std::nullopt;
  }
  if (parts[2] != "models" || parts.size() < 4 || parts[3].empty()) return std::nullopt;
  Route route = {.resource = Resource::model, .name = decode_percent(parts[3])};
  std::size_t next = 4;
  if (parts.size() > next + 1 && parts[next] == "versions") {
    route.version = decode_percent(parts[next + 1]);
    next += 2;
  }
  if (parts.size() == next) return route;
  if (parts.size() != next + 1) return std::nullopt;
  if (parts[next] == "ready")
    route.resource = Resource::model_ready;
  else if (parts[next] == "infer")
    route.resource = Resource::infer;
  else
    return std::nullopt;
  return route;
}

}  // namespace loam::gateway
