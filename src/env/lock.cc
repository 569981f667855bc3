// loam.lock: what each environment of a project was resolved to. Format: docs/formats/lock.md.
#include <algorithm>

#include "base/text.h"
#include "env/env.h"
#include "env/section.h"

namespace loam::env {
namespace {

constexpr std::size_t kLockBytesMax = 8u << 20;
constexpr std::size_t kSectionsMax = 256;
constexpr std::int64_t kLockVersion = 1;

// Order and repetition say nothing.
std::vector<std::string> as_set(std::vector<std::string> list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

// What a section answers: base and packages, for one platform.
std::string question(const LockSection& section) {
  return section["base"].as_string() + "\n" + section["platform"].as_string() + "\n" +
         Json::array_of(as_set(section["wanted"]["apt"].as_strings())).dump() + "\n" +
         Json::array_of(as_set(section["wanted"]["pip"].as_strings())).dump();
}

std::string question(const spec::Env& env) {
  return env.base + "\n" + platform() + "\n" + Json::array_of(as_set(env.apt)).dump() + "\n" +
         Json::array_of(as_set(env.pip)).dump();
}

}  // namespace

std::string platform() { return "linux/" + debian_architecture(); }

bool answers(const LockSection& section, const spec::Env& env) {
  return question(section) == question(env);
}

Result<LockFile> parse_lock(std::string_view text) {
  if (text.size() > kLockBytesMax) return fail(ErrorCode::too_large, "loam.lock: over 8 MiB");
  auto document = Json::parse(text);
  if (!document) return in_context("loam.lock", document.error());
  if (!document->is_object() || !(*document)["envs"].is_array())
    return fail(
        ErrorCode::invalid,
        "loam.lock: expected {\"version\": 1, \"envs\": […]}; renew with: loam lock --update");
  if (const auto version = (*document)["version"].as_int(); version != kLockVersion)
    return fail(ErrorCode::invalid,
                "loam.lock: version " + std::to_string(version) + ", this Loam reads version 1");
  if ((*document)["envs"].size() > kSectionsMax)
    return fail(ErrorCode::too_large, "loam.lock: over 256 sections");
  LockFile lock;
  for (const Json& section : (*document)["envs"].as_array()) {
    LOAM_TRY(parse_section(section));
    lock.sections.push_back(section);
  }
  return lock;
}

std::string format_lock(const LockFile& lock) {
  auto sections = lock.sections;
  std::sort(sections.begin(), sections.end(),
            [](const LockSection& a, const LockSection& b) { return question(a) < question(b); });
  return Json::object({{"version", kLockVersion}, {"envs", Json(Json::Array(sections))}}).pretty() +
         "\n";
}

const LockSection* find_section(const LockFile& lock, const spec::Env& env) {
  for (const LockSection& section : lock.sections)
    if (answers(section, env)) return &section;
  return nullptr;
}

void put_section(LockFile& lock, LockSection section) {
  const std::string asked = question(section);
  std::erase_if(lock.sections, [&](const LockSection& other) { return question(other) == asked; });
  lock.sections.push_back(std::move(section));
}

void add_roots(const LockSection& section, store::Roots& roots) {
  const auto parsed = parse_section(section);
  if (!parsed) return;
  for (const Deb& deb : parsed->debs) roots.blobs.insert(deb.sha256);
  for (const Wheel& wheel : parsed->closure.wheels) roots.blobs.insert(wheel.sha256);
  if (parsed->tree) roots.trees.insert(*parsed->tree);
}

}  // namespace loam::env
