#include "node/secrets.h"

#include <unistd.h>

#include "base/files.h"
#include "base/text.h"
#include "spec/checks.h"

namespace loam::node {

namespace {

Result<void> check_value(const std::string& name, std::string_view value) {
  if (value.size() > kSecretBytesMax) return fail(ErrorCode::too_large, name + ": over 64 KiB");
  if (value.find('\0') == std::string_view::npos) return {};
  return fail(ErrorCode::invalid, name + ": holds a zero byte, which no environment variable can; encode it (base64)");
}

}  // namespace

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
  if (const std::string wrong = spec::variable_problem(name); !wrong.empty())
    return fail(ErrorCode::invalid, "the secret's name: " + wrong);
  LOAM_CHECK(check_value(name, value));
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
    LOAM_CHECK(check_value("secrets: " + name, value.as_string()));
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
