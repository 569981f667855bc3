#include "engines/way_to_registries.h"

#include <string>
#include <string_view>

#include "base/text.h"

extern char** environ;

namespace loam::engines {
namespace {

bool leads_to_registries(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "http_proxy",    "https_proxy",  "no_proxy",           "all_proxy",     "ftp_proxy",
      "HTTP_PROXY",    "HTTPS_PROXY",  "NO_PROXY",           "ALL_PROXY",     "FTP_PROXY",
      "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};
  for (const std::string_view known : kNames)
    if (name == known) return true;
  return name.starts_with("PIP_");
}

}  // namespace

Json way_to_registries() {
  Json found = Json::object();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || !leads_to_registries(text.substr(0, equals))) continue;
    if (is_utf8(text)) found.set(std::string(text.substr(0, equals)), text.substr(equals + 1));
  }
  return found;
}

}  // namespace loam::engines
