#include "node/models.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace loam::node {
namespace {

constexpr const char* kColumns =
    "uid, name, version, record, tree, size_bytes, created_ms, run, step, imported, project";
constexpr std::size_t kNameBytesMax = 64;

}  // namespace

bool is_model_name(std::string_view name) {
  if (name.empty() || name.size() > kNameBytesMax || name.starts_with("req-")) return false;
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return plain(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
           return plain(c) || c == '-' || c == '_' || c == '.';
         });
}

Result<ModelName> parse_model_name(std::string_view text) {
  ModelName parsed;
  const auto at = text.find('@');
  parsed.name = std::string(text.substr(0, at));
  if (!is_model_name(parsed.name))
    return fail(ErrorCode::invalid, "'" + printable(parsed.name) +
                                        "' is no model's name; expected letters, digits, - _ .");
  if (at == std::string_view::npos) return parsed;
  const std::string_view digits = text.substr(at + 1);
  std::int64_t version = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  if (error != std::errc() || end != digits.data() + digits.size() || version < 1)
    return fail(
        ErrorCode::invalid,
        "'" + printable(text) + "': expected MODEL@N with a version's number, such as digits@3");
  parsed.version = version;
  return parsed;
}

std::int64_t Models::next_version(std::uint32_t uid, const std::string& name) {
  const auto rows = database_.query("SELECT last_version FROM models WHERE uid=? AND name=?",
                                    {std::int64_t{uid}, name});
  return (rows.empty() ? 0 : rows[0].integer(0)) + 1;
}

void Models::add(const ModelVersion& v) {
  database_.write(
      "INSERT INTO models(uid, name, last_version) VALUES(?,?,?) "
      "ON CONFLICT(uid, name) DO UPDATE SET last_version=max(last_version, excluded.last_version)",
      {std::int64_t{v.uid}, v.name, v.version});
  database_.write(
      std::string("INSERT INTO versions(") + kColumns + ") VALUES(?,?,?,?,?,?,?,?,?,?,?)",
      {std::int64_t{v.uid}, v.name, v.version, v.record, v.tree, v.size_bytes, v.created_ms, v.run,
       v.step, v.imported, v.project});
}

std::vector<ModelVersion> Models::select(const std::string& where,
                                         const std::vector<Value>& values) {
  std::vector<ModelVersion> found;
  for (const Row& row : database_.query(
           std::string("SELECT ") + kColumns + " FROM versions WHERE " + where, values)) {
    ModelVersion v;
    v.uid = static_cast<std::uint32_t>(row.integer(0));
    v.name = row.text(1);
    v.version = row.integer(2);
    v.record = row.text(3);
    v.tree = row.text(4);
    v.size_bytes = row.integer(5);
    v.created_ms = row.integer(6);
    v.run = row.integer(7);
    v.step = row.text(8);
    v.imported = row.text(9);
    v.project = row.text(10);
    found.push_back(std::move(v));
  }
  return found;
}

std::vector<ModelVersion> Models::all(std::uint32_t uid) {
  return select("uid=? ORDER BY name, version", {std::int64_t{uid}});
}

std::vector<ModelVersion> Models::everybodys() {
  return select("1 ORDER BY uid, name, version", {});
}

std::vector<ModelVersion> Models::versions(std::uint32_t uid, const std::string& name) {
  return select("uid=? AND name=? ORDER BY version", {std::int64_t{uid}, name});
}

std::optional<ModelVersion> Models::find(std::uint32_t uid, const ModelName& wanted) {
  auto found = wanted.version ? select("uid=? AND name=? AND version=?",
                                       {std::int64_t{uid}, wanted.name, *wanted.version})
                              : select("uid=? AND name=? ORDER BY version DESC LIMIT 1",
                                       {std::int64_t{uid}, wanted.name});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

std::vector<std::string> Models::names(std::uint32_t uid) {
  std::vector<std::string> found;
  for (const Row& row : database_.query(
           "SELECT DISTINCT name FROM versions WHERE uid=? ORDER BY name", {std::int64_t{uid}}))
    found.push_back(row.text(0));
  return found;
}

void Models::remove(const ModelVersion& v) {
  database_.write("DELETE FROM versions WHERE uid=? AND name=? AND version=?",
                  {std::int64_t{v.uid}, v.name, v.version});
}

Json to_json(const ModelVersion& v) {
  Json json = Json::object({{"version", v.version},
                            {"digest", v.record},
                            {"tree", v.tree},
                            {"size_bytes", v.size_bytes},
                            {"created_ms", v.created_ms}});
  if (v.run != 0) json.set("run", v.run);
  if (!v.step.empty()) json.set("step", v.step);
  if (!v.imported.empty()) json.set("imported", v.imported);
  return json;
}

}  // namespace loam::node
