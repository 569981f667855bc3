#include "node/token_routes.h"

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::size_t kNameBytesMax = 63;

// Numbers mean tokens by their id.
bool is_name(const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), plain) &&
         name.find_first_not_of("0123456789") != std::string::npos;
}

std::string free_name(const std::vector<TokenRow>& rows) {
  for (std::size_t number = rows.size() + 1;; ++number) {
    const std::string name = "token-" + std::to_string(number);
    if (std::none_of(rows.begin(), rows.end(), [&](const TokenRow& row) { return row.name == name; }))
      return name;
  }
}

}  // namespace

void TokenRoutes::create(const Request& request, const ResponderPtr& responder) {
  TokenRow wanted;
  wanted.uid = request.caller.uid;
  wanted.user = user_name(wanted.uid);
  wanted.name = request.body["name"].as_string();
  if (wanted.name.empty()) wanted.name = free_name(tokens_.of_user(wanted.uid));
  if (!is_name(wanted.name))
    return responder->reply_error(
        {ErrorCode::invalid,
         "name: expected letters, digits, '-', '_' and '.', at most 63, and not a number alone"});
  const auto scope = scope_named(
      request.body["scope"].is_null() ? "submit" : request.body["scope"].as_string());
  if (!scope) return responder->reply_error(scope.error());
  wanted.scope = *scope;
  wanted.expires_ms = request.body["expires_ms"].as_int();
  if (wanted.expires_ms < 0 || (wanted.expires_ms != 0 && wanted.expires_ms <= wall_ms()))
    return responder->reply_error({ErrorCode::invalid, "expires_ms: expected a time to come"});
  auto made = tokens_.create(wanted);
  if (!made) return responder->reply_error(made.error());
  Json answer = to_json(made->row);
  answer.set("token", made->token);
  responder->reply(201, answer);
}

void TokenRoutes::add_routes(Routes& routes) {
  routes.add("POST", "/v1/tokens",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               create(request, responder);
             });
  routes.add("GET", "/v1/tokens",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               Json list = Json::array();
               for (const TokenRow& row : tokens_.of_user(request.caller.uid)) list.push(to_json(row));
               responder->reply(200, Json::object({{"tokens", std::move(list)}}));
             });
  routes.add("DELETE", "/v1/tokens/:token",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               const auto id = tokens_.revoke(request.caller.uid, params.at("token"));
               if (!id) return responder->reply_error(id.error());
               revoked_(*id);
               responder->reply(200, Json::object({{"revoked", *id}}));
             });
}

}  // namespace loam::node
