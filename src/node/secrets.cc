#include "node/secrets.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/files.h"
#include "base/text.h"

namespace loam::node {

bool is_secret_name(std::string_view name) {
  if (name.empty() || name.size() > 128 || std::isdigit(static_cast<unsigned char>(name[0])))
    return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::string Secrets::path(const char* kind, std::int64_t id) const {
  return folder_ + "/" + kind + "-" + std::to_string(id);
}

Json Secrets::of_user(std::uint32_t uid) const {
  const auto text = read_file(path("user", uid));
  if (!text) return Json::object();
  auto document = Json::parse(*text);
  return document && document->is_object() ? *document : Json::object();
}

std::vector<std::string> Secrets::names(std::uint32_t uid) const {
  std::vector<std::string> names;
  const Json kept = of_user(uid);
  for (const auto& [name, value] : kept.as_object()) names.push_back(name);
  return names;
}

Result<void> Secrets::put(std::uint32_t uid, const std::string& name, const std::string& value) {
  if (!is_secret_name(name))
    return fail(ErrorCode::invalid,
                "'" + printable(name) + "' cannot name a secret; expected letters, digits and _");
  if (value.size() > kSecretBytesMax) return fail(ErrorCode::too_large, name + ": over 64 KiB");
  Json kept = of_user(uid);
  kept.set(name, value);
  if (kept.size() > kSecretsOfUserMax)
    return fail(ErrorCode::full, "256 secrets are kept already; remove one");
  LOAM_CHECK(make_folders(folder_, 0700));
  return write_file_atomic(path("user", uid), kept.dump());
}

Result<void> Secrets::remove(std::uint32_t uid, const std::string& name) {
  Json kept = of_user(uid);
  if (!kept.as_object().contains(name))
    return fail(ErrorCode::not_found, "no secret '" + printable(name) + "'");
  kept.erase(name);
  return write_file_atomic(path("user", uid), kept.dump());
}

Result<Json> Secrets::resolve(std::uint32_t uid, const std::vector<std::string>& wanted,
                              const Json& submitted) const {
  Json values = Json::object();
  const Json kept = wanted.empty() ? Json::object() : of_user(uid);
  for (const std::string& name : wanted) {
    const Json& value = submitted[name].is_string() ? submitted[name] : kept[name];
    if (!value.is_string())
      return fail(ErrorCode::invalid,
                  "secrets: " + name +
                      " has no value; export it, or keep one with: loam secret set " + name);
    if (value.as_string().size() > kSecretBytesMax)
      return fail(ErrorCode::too_large, "secrets: " + name + ": over 64 KiB");
    if (value.as_string().find('\0') != std::string::npos)
      return fail(ErrorCode::invalid,
                  "secrets: " + name + ": holds a zero byte, which no environment variable can");
    values.set(name, value);
  }
  return values;
}

Result<void> Secrets::keep_for_run(std::int64_t run, const Json& document) const {
  LOAM_CHECK(make_folders(folder_, 0700));
  return write_file_atomic(path("run", run), document.dump());
}

Json Secrets::of_run(std::int64_t run) const {
  const auto text = read_file(path("run", run));
  if (!text) return Json::object();
  auto document = Json::parse(*text);
  return document ? *document : Json::object();
}

void Secrets::forget_run(std::int64_t run) const { (void)::unlink(path("run", run).c_str()); }

Result<std::string> Secrets::keep_for_job(std::int64_t job, const Json& values) const {
  if (values.size() == 0) return std::string();
  LOAM_CHECK(make_folders(folder_, 0700));
  LOAM_CHECK(write_file_atomic(path("job", job), values.dump()));
  return path("job", job);
}

std::string Secrets::file_of_job(std::int64_t job) const {
  return path_exists(path("job", job)) ? path("job", job) : "";
}

void Secrets::forget_job(std::int64_t job) const { (void)::unlink(path("job", job).c_str()); }

}  // namespace loam::node
