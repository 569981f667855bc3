// Which handler answers which request. A pattern is a path whose parts may be `:name` (one part)
// or, last,
// `*name` (all the rest, slashes included, at least one part): "/v1/runs/:id/events",
// "/v1/logs/*target". A literal part beats `:name`, which beats `*name`; the order of add() decides
// nothing.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/http_server.h"

namespace loam::node {

class Routes {
 public:
  using Params = std::map<std::string, std::string, std::less<>>;
  using Handler = std::function<void(const Request&, const Params&, ResponderPtr)>;

  // The same method and pattern twice is a bug (assert). What api/openapi.h says of them is held by
  // dispatch(): query and body have its types, or 400.
  void add(std::string_view method, std::string_view pattern, Handler handler);
  // Calls the handler, or replies not_found (404), or 405 with the methods that the path knows, also
  // as `Allow` (RFC 9110, 15.5.6).
  void dispatch(const Request& request, ResponderPtr responder) const;
  // Whether its caller may ask for this, whatever the body: denied. What no route knows is for
  // dispatch() to say.
  Result<void> allowed(const Request& request) const;
  std::vector<std::string> names() const;  // "GET /v1/runs/:id", as they were added

 private:
  struct Route {
    std::string method;
    std::string name;
    std::vector<std::string> parts;
    Handler handler;
  };
  struct Found {
    const Route* route = nullptr;
    Params params;
    std::vector<std::string> methods;  // that the path knows
  };
  Found find(const Request& request) const;
  std::vector<Route> routes_;
};

}  // namespace loam::node
