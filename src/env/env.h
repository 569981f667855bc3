// Environments: from `env:` to a lock section, from a lock section to a tree in the store.
//
//   spec::Env ── resolve (network: apt lists, pip's resolver) ──▶ lock section (JSON, digests of
//   every .deb and wheel, all of them already blobs of the store) ── build (no network, store only)
//   ──▶ tree digest
//
// Threads: functions block for minutes and run on a worker thread of the node; progress is called
// from it. Two builds at once are safe; that two of one environment become one is the caller's to
// arrange. The caller holds a Store::pin() from before resolve() until the section's roots are
// recorded. Trust: package scripts and wheels run only in sandbox/build.h's namespaces.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "sandbox/build.h"
#include "spec/project.h"
#include "store/store.h"

namespace loam::env {

struct Progress {
  std::string phase;  // "apt: resolving", "apt: downloading", "building", "pip: resolving", ...
  std::uint64_t done = 0;  // of total; both 0 where unknown
  std::uint64_t total = 0;
  std::string text;  // the package at hand, a line of the build
};

struct Context {
  store::Store* store = nullptr;
  std::string work_folder;  // STATE/builds: scratch, emptied at the node's start
  sandbox::IdRange build_uids;
  sandbox::IdRange build_gids;
  std::string shared_folder;  // share/loam: python/build/ (the scripts that run inside builds)
  std::function<void(const Progress&)> progress;
  std::function<bool()> cancelled;  // polled
  std::string home;                 // the submitting user's home: pip.conf, netrc; "" for none
  std::vector<std::pair<std::string, std::string>>
      proxy_environment;  // http_proxy, PIP_*, SSL_CERT_FILE …
};

// One `env:` as resolved. Canonical; credentials and mirror addresses never in it.
// {"base":"debian:bookworm","platform":"linux/amd64","wanted":{apt,pip,base},
//  "debs":[{"name","version","architecture","sha256","size"}],"wheels":[{"name","version","file","sha256"}],
//  "tools":{"mmdebstrap":"1.2.3","dpkg":"…","tar":"…","installer":"…"},"python":"3.11","tree":"sha256:…"}
// Digests of debs and wheels are 64 hex digits. "python" is there where wheels are.
// docs/formats/lock.md. base: host has no debs and, without pip, no tree:
// {"base":"host",…,"tree":null}.
using LockSection = Json;

// Resolves and downloads. Errors name the package and the nearest names.
Result<LockSection> resolve(const Context& context, const spec::Env& env);

// Whether the section answers this env (same base, apt, pip and platform).
bool answers(const LockSection& section, const spec::Env& env);

struct Built {
  std::optional<Digest> tree;  // none for base: host without pip
  std::string digest;          // env digest: SHA-256 of the canonical section ("tree" included)
};
// Of a tree that the section names and the store holds: built here from just these packages, or
// only said to be theirs, for a lock is a file that anybody may have edited.
enum class NamedTree { unproven, built_here };
// Builds exactly the section from the store's blobs; fetches a missing blob again by its version
// from the mirror (checked by hash) or says what is no longer to be had and how to renew. When the
// section has no tree yet it is filled in; when it has one and the build differs: corrupt, naming
// both. Nothing is built where the tree is there and `named` says that it was built here.
Result<Built> build(const Context& context, LockSection& section,
                    NamedTree named = NamedTree::unproven);

// Whether both name the same packages, byte for byte, for the same base and platform.
bool same_packages(const LockSection& one, const LockSection& other);

// The env digest of a section that is whole: none where its tree is not known yet.
std::optional<std::string> digest_of(const LockSection& section);

// loam.lock: {"version":1,"envs":[{section}…]}; sections of other platforms are kept as they are.
struct LockFile {
  std::vector<LockSection> sections;
};
Result<LockFile> parse_lock(std::string_view text);
std::string format_lock(const LockFile& lock);  // pretty JSON, stable order
const LockSection* find_section(const LockFile& lock, const spec::Env& env);
void put_section(LockFile& lock,
                 LockSection section);  // replaces the one with the same wanted and platform

// Blobs and trees that a section names (roots of garbage collection).
void add_roots(const LockSection& section, store::Roots& roots);

std::string platform();  // "linux/amd64"

// base: host with pip: the tree holds only lib/ (packages) and bin/ (their commands). It is bound
// read-only at kHostPipMount; PYTHONPATH gets kHostPipSite and PATH kHostPipCommands, each in front
// of what is there.
inline constexpr std::string_view kHostPipMount = "/loam/pip";
inline constexpr std::string_view kHostPipSite = "/loam/pip/lib";
inline constexpr std::string_view kHostPipCommands = "/loam/pip/bin";

}  // namespace loam::env
