// Wheels: resolved once by pip on the environment's own Python, downloaded by hash, installed by
// one small installer without any resolution.
//
//   requirements ─ check ─▶ pip (network; wheels only, so nothing of them runs) ─▶ blobs + [Wheel]
//   [Wheel] ─ installer (no network) ─▶ a tar of the whole tree, or of base: host's lib/ and bin/
//
// Trust: requirement lines are the user's; those that would run foreign code or put credentials
// into the lock are refused. The host's pip.conf, netrc and CA bundle go in as copies and vanish
// with the build.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "env/apt.h"
#include "env/env.h"

namespace loam::env {

inline constexpr std::size_t kWheelsMax = 5'000;

struct Wheel {
  std::string name;  // normalised (PEP 503)
  std::string version;
  std::string file;
  Digest sha256;
  bool operator==(const Wheel&) const = default;
};

struct WheelClosure {
  std::string python;  // "3.11"
  std::vector<Wheel> wheels;
};

// One line of `pip:`: what may stand there.
Result<void> check_requirement(const std::string& line);
bool valid_wheel_file(std::string_view file);

// Where wheels are resolved and installed. `suite` is empty for base: host; else FOLDER/base.tar is
// there.
struct WheelPlace {
  std::string folder;  // prepared by prepare_folder()
  std::string suite;
};

// Resolves and puts every wheel of the closure into the store.
Result<WheelClosure> resolve_wheels(const Context& context, const WheelPlace& place,
                                    const std::vector<std::string>& requirements);
// The wheels that the store lacks, by name and version, checked by hash. `requirements`: for its
// index lines.
Result<void> fetch_missing_wheels(const Context& context, const WheelPlace& place,
                                  const std::vector<Wheel>& wheels,
                                  const std::vector<std::string>& requirements);
// Leaves FOLDER/work/tree.tar.
Result<void> install_wheels(const Context& context, const WheelPlace& place,
                            const WheelClosure& closure);

// The library that installs wheels: its folder and version on this machine.
struct InstallerLibrary {
  std::string folder;
  std::string version;
};
Result<InstallerLibrary> find_installer();

}  // namespace loam::env
