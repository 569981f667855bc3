#include "node/routes.h"

#include <utility>

#include "api/openapi.h"
#include "api/shape.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::size_t kQueryDigitsMax = 15;

enum class PartKind { literal, one, rest };

PartKind kind_of(const std::string& part) {
  if (part.starts_with(':')) return PartKind::one;
  if (part.starts_with('*')) return PartKind::rest;
  return PartKind::literal;
}

// "/a/b" → {"a", "b"}. A path without its leading slash has no parts and so matches nothing.
std::vector<std::string> parts_of(std::string_view path) {
  if (path.empty() || path.front() != '/') return {};
  return split(path.substr(1), '/');
}

std::optional<Routes::Params> match(const std::vector<std::string>& pattern,
                                    const std::vector<std::string>& path) {
  Routes::Params params;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (i >= path.size()) return std::nullopt;
    switch (kind_of(pattern[i])) {
      case PartKind::literal:
        if (pattern[i] != path[i]) return std::nullopt;
        break;
      case PartKind::one:
        if (path[i].empty()) return std::nullopt;
        params[pattern[i].substr(1)] = path[i];
        break;
      case PartKind::rest: {
        const std::string rest = join(
            std::vector<std::string>(path.begin() + static_cast<std::ptrdiff_t>(i), path.end()),
            "/");
        if (rest.empty()) return std::nullopt;
        params[pattern[i].substr(1)] = rest;
        return params;
      }
    }
  }
  if (pattern.size() != path.size()) return std::nullopt;
  return params;
}

// True where a is to be preferred: at the first part of another kind, the more exact one.
bool more_exact(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    if (kind_of(a[i]) != kind_of(b[i])) return kind_of(a[i]) < kind_of(b[i]);
  return false;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() <= kQueryDigitsMax &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

// "scope" of its description: `local` is for whom the kernel names; left out, what only reads is for
// `read`, the rest for `submit`.
Result<void> check_scope(const Json& described, const Request& request) {
  if (request.caller.scope == Scope::none)
    return fail(ErrorCode::denied, "nobody is known to have sent this");
  if (request.caller.token == 0) return {};
  const std::string& scope = described["scope"].as_string();
  if (scope == "local")
    return fail(ErrorCode::denied, "not with a token: only over the node's Unix socket");
  const bool wide = scope == "admin" ? request.caller.scope == Scope::admin
                                     : request.caller.scope != Scope::read || request.method == "GET";
  if (wide) return {};
  return fail(ErrorCode::denied, std::string("the token's scope does not reach: this needs ") +
                                     (scope == "admin" ? "admin" : "submit"));
}

Result<void> check_request(const Json& described, const Request& request) {
  for (const auto& [written, shape] : described["query"].as_object()) {
    const std::string key = written.ends_with('?') ? written.substr(0, written.size() - 1) : written;
    const auto found = request.query.find(key);
    if (found == request.query.end()) continue;
    const bool number = shape.as_string().starts_with("integer") && is_number(found->second);
    LOAM_CHECK(api::check_shape(shape, number ? Json(0) : Json(found->second), "query." + key));
  }
  if (!described.has("takes")) return {};
  // Where nothing must be said, nothing may be.
  return api::check_shape(described["takes"],
                          request.body.is_null() ? Json::object() : request.body, "body");
}

}  // namespace

void Routes::add(std::string_view method, std::string_view pattern, Handler handler) {
  Route route{std::string(method), std::string(method) + " " + std::string(pattern),
              parts_of(pattern), std::move(handler)};
  LOAM_ASSERT(!route.parts.empty());
  for (std::size_t i = 0; i + 1 < route.parts.size(); ++i)
    LOAM_ASSERT(kind_of(route.parts[i]) != PartKind::rest);
  for (const Route& other : routes_)
    LOAM_ASSERT(other.method != route.method || other.parts != route.parts);
  routes_.push_back(std::move(route));
}

Routes::Found Routes::find(const Request& request) const {
  const std::vector<std::string> path = parts_of(request.path);
  Found found;
  for (const Route& route : routes_) {
    auto params = match(route.parts, path);
    if (!params) continue;
    found.methods.push_back(route.method);
    if (route.method != request.method ||
        (found.route != nullptr && !more_exact(route.parts, found.route->parts)))
      continue;
    found.route = &route;
    found.params = std::move(*params);
  }
  return found;
}

Result<void> Routes::allowed(const Request& request) const {
  const Found found = find(request);
  if (found.route == nullptr) return {};
  return check_scope(api::operation(found.route->name), request);
}

void Routes::dispatch(const Request& request, ResponderPtr responder) const {
  const Found found = find(request);
  if (found.route != nullptr) {
    const Json& described = api::operation(found.route->name);
    if (auto allowed = check_scope(described, request); !allowed)
      return responder->reply_error(allowed.error());
    if (auto checked = check_request(described, request); !checked)
      return responder->reply_error(checked.error());
    found.route->handler(request, found.params, std::move(responder));
  } else if (!found.methods.empty()) {
    const std::string text = printable(request.path) + " knows " + join(found.methods, ", ") +
                             ", not " + printable(request.method);
    responder->header("allow", join(found.methods, ", "));
    responder->reply(
        405, Json::object({{"error", Json::object({{"code", "invalid"}, {"text", text}})}}));
  } else {
    responder->reply_error({ErrorCode::not_found, "no such resource: " + printable(request.path)});
  }
}

std::vector<std::string> Routes::names() const {
  std::vector<std::string> names;
  for (const Route& route : routes_) names.push_back(route.name);
  return names;
}

}  // namespace loam::node
