// What a request's path means in the Open Inference Protocol v2.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace loam::gateway {

enum class Resource { server, live, ready, model, model_ready, infer };

struct Route {
  Resource resource = Resource::server;
  std::string name;
  std::string version;  // "": the newest that is ready
};

// "/v2/models/digits/versions/3/infer?x=y" and so on; none for any other path.
std::optional<Route> parse_route(std::string_view target);

}  // namespace loam::gateway
