#include "env/section.h"

#include <algorithm>

#include "base/text.h"

namespace loam::env {
namespace {

constexpr std::string_view kDebianPrefix = "debian:";

bool only(std::string_view text, std::string_view extra) {
  return !text.empty() && text.size() <= 250 && text.front() != '-' && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [&](unsigned char c) {
           return std::isalnum(c) != 0 ||
                  extra.find(static_cast<char>(c)) != std::string_view::npos;
         });
}

tl::unexpected<Error> bad(const std::string& what, const std::string& found) {
  return fail(ErrorCode::invalid, "loam.lock: " + what + " '" + printable(found) +
                                      "' is not one; renew with: loam lock --update");
}

Result<Deb> parse_deb(const Json& item) {
  Deb deb;
  deb.name = LOAM_TRY(item.string_at("name"));
  deb.version = LOAM_TRY(item.string_at("version"));
  deb.architecture = LOAM_TRY(item.string_at("architecture"));
  deb.sha256 = LOAM_TRY(digest_at(item, "sha256"));
  const std::int64_t size = LOAM_TRY(item.int_at("size"));
  if (!only(deb.name, "+.-")) return bad("a package's name", deb.name);
  if (!only(deb.version, "+.:~-")) return bad("a package's version", deb.version);
  if (!only(deb.architecture, "-")) return bad("an architecture", deb.architecture);
  if (size < 0) return bad("a package's size", std::to_string(size));
  deb.size_bytes = static_cast<std::uint64_t>(size);
  return deb;
}

Result<Wheel> parse_wheel(const Json& item) {
  Wheel wheel;
  wheel.name = LOAM_TRY(item.string_at("name"));
  wheel.version = LOAM_TRY(item.string_at("version"));
  wheel.file = LOAM_TRY(item.string_at("file"));
  wheel.sha256 = LOAM_TRY(digest_at(item, "sha256"));
  if (!only(wheel.name, "._-")) return bad("a wheel's name", wheel.name);
  if (!only(wheel.version, "._+!-")) return bad("a wheel's version", wheel.version);
  if (!valid_wheel_file(wheel.file)) return bad("a wheel's file", wheel.file);
  return wheel;
}

Json debs_json(const std::vector<Deb>& debs) {
  Json list = Json::array();
  for (const Deb& deb : debs)
    list.push(Json::object({{"name", deb.name},
                            {"version", deb.version},
                            {"architecture", deb.architecture},
                            {"sha256", deb.sha256.hex()},
                            {"size", deb.size_bytes}}));
  return list;
}

Json wheels_json(const std::vector<Wheel>& wheels) {
  Json list = Json::array();
  for (const Wheel& wheel : wheels)
    list.push(Json::object({{"name", wheel.name},
                            {"version", wheel.version},
                            {"file", wheel.file},
                            {"sha256", wheel.sha256.hex()}}));
  return list;
}

}  // namespace

Result<Digest> digest_at(const Json& document, std::string_view key) {
  const std::string text = LOAM_TRY(document.string_at(key));
  return Digest::parse(text);
}

Result<std::string> suite_of_base(const std::string& base) {
  if (base == "host") return "";
  if (base.starts_with(kDebianPrefix) && valid_suite(base.substr(kDebianPrefix.size())))
    return base.substr(kDebianPrefix.size());
  return fail(ErrorCode::invalid, "base: '" + printable(base) +
                                      "': expected host or debian:SUITE, such as debian:bookworm");
}

std::string Section::suite() const { return suite_of_base(base).value_or(""); }

Result<Section> parse_section(const Json& document) {
  Section section;
  section.base = LOAM_TRY(document.string_at("base"));
  section.platform = LOAM_TRY(document.string_at("platform"));
  LOAM_TRY(suite_of_base(section.base));
  section.apt = document["wanted"]["apt"].as_strings();
  section.pip = document["wanted"]["pip"].as_strings();
  if (document["debs"].size() > kDebsMax || document["wheels"].size() > kWheelsMax)
    return bad("a list of that length", std::to_string(document["debs"].size()));
  for (const Json& item : document["debs"].as_array())
    section.debs.push_back(LOAM_TRY(parse_deb(item)));
  for (const Json& item : document["wheels"].as_array())
    section.closure.wheels.push_back(LOAM_TRY(parse_wheel(item)));
  section.closure.python = document["python"].as_string();
  if (!section.closure.wheels.empty() && !only(section.closure.python, "."))
    return bad("a Python version", section.closure.python);
  for (const auto& [name, version] : document["tools"].as_object())
    section.tools[name] = version.as_string();
  if (document.has("tree")) section.tree = LOAM_TRY(digest_at(document, "tree"));
  return section;
}

Json to_json(const Section& section) {
  Json tools = Json::object();
  for (const auto& [name, version] : section.tools) tools.set(name, version);
  Json document =
      Json::object({{"base", section.base},
                    {"platform", section.platform},
                    {"wanted", Json::object({{"base", section.base},
                                             {"apt", Json::array_of(section.apt)},
                                             {"pip", Json::array_of(section.pip)}})},
                    {"debs", debs_json(section.debs)},
                    {"wheels", wheels_json(section.closure.wheels)},
                    {"tools", std::move(tools)},
                    {"tree", section.tree ? Json(section.tree->text()) : Json(nullptr)}});
  if (!section.closure.python.empty()) document.set("python", section.closure.python);
  return document;
}

}  // namespace loam::env
