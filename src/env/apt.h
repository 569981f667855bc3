// apt-get with a state of its own: this machine's mirrors, keys, proxies and credentials, another
// suite, an empty system. Nothing of the host's package state is read or changed.
//
//   sources + keys ─ update ─▶ lists ─ plan ─▶ [Deb] ─ download ─▶ blobs of the store
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "env/env.h"
#include "env/tool.h"

namespace loam::env {

inline constexpr std::size_t kDebsMax = 20'000;
inline constexpr std::size_t kWantedMax = 2'000;

struct Deb {
  std::string name;
  std::string version;
  std::string architecture;
  Digest sha256;
  std::uint64_t size_bytes = 0;
  // "NAME_VERSION_ARCH.deb" with apt's escapes: the name in apt's archive folder.
  std::string file() const;
  bool operator==(const Deb&) const = default;
};

// One line of `apt-get install --print-uris`: 'URI' FILE SIZE SHA256:HEX.
Result<Deb> parse_uri_line(std::string_view line);
// invalid: what apt would read as an option, a removal, a pattern or a path.
Result<void> check_package_name(const std::string& wanted);
// "python3-nmupy: no such package in debian:bookworm (did you mean python3-numpy?)"; names:
// apt-cache pkgnames.
std::string missing_package_text(const std::string& wanted, const std::string& suite,
                                 const std::vector<std::string>& names);
bool valid_suite(std::string_view suite);

class Apt {
 public:
  // A state below `folder` (must exist); sources as apt_sources.h turns them. Fetches the package
  // lists.
  static Result<Apt> open(const Context& context, const std::string& folder,
                          const std::string& suite);

  // Essential and required packages, the wanted ones, and all they depend on (recommendations not).
  // Sorted.
  Result<std::vector<Deb>> plan(const std::vector<std::string>& wanted);
  // Makes every planned package a blob; those that the store has already are not downloaded.
  Result<void> download(const std::vector<std::string>& wanted, const std::vector<Deb>& debs);
  // Exactly this version, or not_found.
  Result<void> fetch(const Deb& deb);
  // One package's .deb, of the version that the suite has, to `path`.
  Result<void> download_file(const std::string& name, const std::string& path);

 private:
  Apt(const Context& context, std::string folder, std::string suite)
      : context_(context), folder_(std::move(folder)), suite_(std::move(suite)) {}
  SpawnOptions command(std::vector<std::string> argv) const;
  Result<void> write_configuration() const;
  Result<void> update();
  Result<void> check_known(const std::vector<std::string>& wanted);

  const Context& context_;
  std::string folder_;
  std::string suite_;
};

// "amd64"; Debian's name of this machine's architecture.
std::string debian_architecture();

}  // namespace loam::env
