// POST and GET /v1/tokens, DELETE /v1/tokens/NAME: over the Unix socket alone, so that a token that
// got lost makes no other.
#pragma once

#include <functional>

#include "node/routes.h"
#include "node/tokens.h"

namespace loam::node {

class TokenRoutes {
 public:
  // `revoked`: what is open with it ends.
  TokenRoutes(Tokens& tokens, std::function<void(std::int64_t)> revoked)
      : tokens_(tokens), revoked_(std::move(revoked)) {}
  void add_routes(Routes& routes);

 private:
  void create(const Request& request, const ResponderPtr& responder);

  Tokens& tokens_;
  std::function<void(std::int64_t)> revoked_;
};

}  // namespace loam::node
