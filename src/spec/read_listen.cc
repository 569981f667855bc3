// `listen:` of the node's configuration: where it answers besides its Unix socket.
#include <arpa/inet.h>

#include <charconv>

#include "spec/checks.h"
#include "spec/node_config_parts.h"

namespace loam::spec {
namespace {

constexpr std::string_view kExpected = "an address and a port such as 0.0.0.0:8443 or [::]:8443";

// RFC 1122, 3.2.1.3 (g), and RFC 4291, 2.5.3.
bool is_loopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return ::inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool is_address(const std::string& host, bool bracketed) {
  in6_addr address{};
  return ::inet_pton(bracketed ? AF_INET6 : AF_INET, host.c_str(), &address) == 1;
}

bool read_address(const std::string& text, Listen& listen) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return false;
  std::string host = text.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  const char* end = text.data() + text.size();
  std::uint16_t port = 0;
  const auto [stopped, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (error != std::errc() || stopped != end || port == 0 || !is_address(host, bracketed))
    return false;
  listen.address = text;
  listen.host = std::move(host);
  listen.port = port;
  return true;
}

}  // namespace

std::optional<Listen> read_listen(const Value& value) {
  const Section section(value, {"address", "certificate", "key"},
                        "a map such as {address: 0.0.0.0:8443, certificate: /etc/loam/tls.crt, key: "
                        "/etc/loam/tls.key}");
  if (!value.is_map()) return {};
  Listen listen;
  listen.place = value.key_place();
  bool whole = false;
  if (const auto item = section.need("address", kExpected))
    if (const auto text = item->text(kExpected)) {
      whole = read_address(*text, listen);
      if (!whole) item->problem("'" + *text + "' is no address and port; expected " + std::string(kExpected));
    }
  const auto certificate = section.find("certificate"), key = section.find("key");
  if (certificate) listen.certificate = read_absolute_path(*certificate, "a file in PEM").value_or("");
  if (key) listen.key = read_absolute_path(*key, "a file in PEM").value_or("");
  if (certificate && !key) certificate->problem("stands alone; expected key: beside it");
  if (key && !certificate) key->problem("stands alone; expected certificate: beside it");
  if (whole && !certificate && !key && !is_loopback(listen.host))
    section.value().problem("without certificate: and key: tokens would cross the network as they are; "
                            "only a loopback address such as 127.0.0.1 may do without");
  return listen;
}

Json to_json(const std::optional<Listen>& listen) {
  if (!listen) return nullptr;
  return Json::object({{"address", listen->address},
                       {"certificate", listen->certificate.empty() ? Json() : Json(listen->certificate)},
                       {"key", listen->key.empty() ? Json() : Json(listen->key)}});
}

}  // namespace loam::spec
