// What may stand in `pip:`. pip would run code of what is not a wheel, with the host's credentials
// at hand.
#include <algorithm>
#include <cctype>

#include "base/text.h"
#include "env/wheels.h"

namespace loam::env {
namespace {

constexpr std::size_t kRequirementBytesMax = 4096;
constexpr std::string_view kNameBytes =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

tl::unexpected<Error> refuse(const std::string& line, const std::string& why) {
  return fail(ErrorCode::invalid, "pip: '" + printable(line) + "': " + why);
}

// "https://user:secret@host/…"
bool has_credentials(const std::string& line) {
  const auto scheme = line.find("://");
  if (scheme == std::string::npos) return false;
  const auto end = line.find_first_of("/ ?#", scheme + 3);
  return line.substr(scheme + 3, end - scheme - 3).find('@') != std::string::npos;
}

Result<void> check_option(const std::string& line) {
  constexpr std::string_view kAllowed[] = {"-i",    "--index-url",     "--extra-index-url",
                                           "-f",    "--find-links",    "--no-index",
                                           "--pre", "--prefer-binary", "--only-binary"};
  const std::string name = line.substr(0, line.find_first_of(" =\t"));
  if (std::find(std::begin(kAllowed), std::end(kAllowed), name) != std::end(kAllowed)) return {};
  return refuse(
      line,
      "this option is not taken here; expected a requirement, or --index-url, --extra-index-url, "
      "--find-links, --no-index, --pre (put the rest into pip.conf)");
}

Result<void> check_direct(const std::string& line, const std::string& url) {
  const std::string path = url.substr(0, url.find_first_of("#; "));
  const bool web =
      path.starts_with("https://") || path.starts_with("http://") || path.starts_with("file:///");
  if (web && path.ends_with(".whl")) return {};
  return refuse(line, "only wheels are installed; expected the address of a .whl file");
}

// What follows the name and its extras, "[a, b]" (PEP 508).
std::string_view after_name(std::string_view line) {
  std::string_view rest =
      trim(line.substr(std::min(line.find_first_not_of(kNameBytes), line.size())));
  const auto end = rest.find(']');
  if (!rest.starts_with('[') || end == std::string_view::npos) return rest;
  const std::string_view extras = rest.substr(1, end - 1);
  const bool plain = std::all_of(extras.begin(), extras.end(), [](char c) {
    return kNameBytes.find(c) != std::string_view::npos || c == ',' || c == ' ' || c == '\t';
  });
  return plain ? trim(rest.substr(end + 1)) : rest;
}

}  // namespace

Result<void> check_requirement(const std::string& line) {
  if (line.size() > kRequirementBytesMax) return refuse(line.substr(0, 60), "over 4096 bytes");
  if (std::any_of(line.begin(), line.end(), [](unsigned char c) { return c < 0x20 && c != '\t'; }))
    return refuse(line, "control characters");
  if (has_credentials(line))
    return refuse("…" + line.substr(line.find('@', line.find("://"))),
                  "credentials do not belong into loam.yaml; put them into ~/.netrc or pip.conf");
  if (line.starts_with('-')) return check_option(line);
  // PEP 508: a name, extras, then versions or "@ address", then markers.
  if (line.empty() || std::isalnum(static_cast<unsigned char>(line[0])) == 0)
    return refuse(line, "expected a requirement such as numpy==1.26.4");
  const std::string_view rest = after_name(line);
  if (rest.starts_with('@')) return check_direct(line, std::string(trim(rest.substr(1))));
  if (rest.empty() || std::string_view("<>=!~;(").find(rest[0]) != std::string_view::npos ||
      rest.starts_with("--hash"))
    return {};
  return refuse(
      line,
      "expected a requirement such as numpy==1.26.4; folders and archives of source are not built");
}

bool valid_wheel_file(std::string_view file) {
  constexpr std::string_view kAllowed = "_.+!-";
  const bool plain = std::all_of(file.begin(), file.end(), [&](unsigned char c) {
    return std::isalnum(c) != 0 || kAllowed.find(static_cast<char>(c)) != std::string_view::npos;
  });
  // PEP 427: name-version[-build]-python-abi-platform.whl
  return plain && file.size() <= 250 && file.ends_with(".whl") && !file.starts_with('.') &&
         !file.starts_with('-') && std::count(file.begin(), file.end(), '-') >= 4;
}

}  // namespace loam::env
