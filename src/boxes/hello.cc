#include "boxes/hello.h"

#include "base/text.h"

namespace loam::boxes {
namespace {

constexpr std::string_view kWord = "loam-bridge ";

// "0.1" of "0.1.7": what must be equal.
std::string_view series(std::string_view version) {
  const auto first = version.find('.');
  const auto second = first == std::string_view::npos ? first : version.find('.', first + 1);
  return version.substr(0, second);
}

Result<Json> parse(std::string_view line) {
  const auto space = line.find(' ');
  const std::string_view protocol = line.substr(0, space);
  if (space == std::string_view::npos || protocol != std::to_string(kBridgeProtocol))
    return fail(ErrorCode::unavailable,
                "its loam speaks version " + printable(protocol.substr(0, 16)) +
                    " of the bridge, this one version " + std::to_string(kBridgeProtocol) +
                    "; install the same version of Loam on both");
  auto document = Json::parse(line.substr(space + 1));
  if (!document) return in_context("what its loam says of itself", document.error());
  if (document->has("error"))
    return fail(ErrorCode::unavailable, printable((*document)["error"].as_string()));
  return document;
}

}  // namespace

std::string hello_line(const Json& document) {
  return std::string(kWord) + std::to_string(kBridgeProtocol) + " " + document.dump() + "\n";
}

Result<std::optional<Json>> HelloReader::add(std::string_view bytes) {
  text_ += bytes;
  for (auto at = text_.find(kWord); at != std::string::npos; at = text_.find(kWord, at + 1)) {
    if (at > 0 && text_[at - 1] != '\n') continue;
    const auto end = text_.find('\n', at);
    if (end == std::string::npos) break;
    Json document =
        LOAM_TRY(parse(std::string_view(text_).substr(at + kWord.size(), end - at - kWord.size())));
    rest = text_.substr(end + 1);
    return std::optional<Json>(std::move(document));
  }
  if (text_.size() > kHelloBytesMax)
    return fail(ErrorCode::corrupt,
                "it answers with something else than Loam's bridge, for 256 KiB");
  return std::optional<Json>();
}

Result<void> check_version(const Json& hello, std::string_view own_version) {
  const std::string& version = hello["version"].as_string();
  if (series(version) == series(own_version)) return {};
  return fail(ErrorCode::unavailable,
              "it has Loam " + printable(version) + ", this is " + std::string(own_version) +
                  ": their APIs may differ; install the same version on both");
}

}  // namespace loam::boxes
