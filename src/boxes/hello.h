// The first line that `loam __bridge` says. Whatever a login shell prints before it is skipped.
//
//   loam-bridge 1 {"version":"0.1.0","socket":…,"projects":…,"home":…}\n
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace loam::boxes {

inline constexpr int kBridgeProtocol = 1;
inline constexpr std::size_t kHelloBytesMax = 256u << 10;  // with what came before it

std::string hello_line(const Json& document);

// Collects bytes until the hello is whole. Its document, then `rest` holds what came after it; none
// yet; an error where it can no longer come, is of another protocol, or says that the box has one
// of its own.
class HelloReader {
 public:
  Result<std::optional<Json>> add(std::string_view bytes);
  std::string rest;

 private:
  std::string text_;
};

// An error where this program and the box's are no pair: its text names both and the mend.
Result<void> check_version(const Json& hello, std::string_view own_version);

}  // namespace loam::boxes
