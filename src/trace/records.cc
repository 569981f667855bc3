#include "trace/records.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

namespace loam::trace {
namespace {

constexpr int kRecordVersion = 1;
constexpr std::size_t kLayersMax = 2000;  // a model of a model of a model: no real chain comes near

Json begin(const char* kind) {
  return Json::object({{"record", kind}, {"version", kRecordVersion}});
}

// A pointer to a record; null says that there is none.
Json pointer(const std::string& digest) { return digest.empty() ? Json() : Json(digest); }

Json or_empty(const Json& value, const Json& empty) { return value.is_null() ? empty : value; }

std::string fraction_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  return Json(value).dump();
}

// The order in which a reader goes down. Models and runs alternate, so they share a rank and keep
// the order in which they were found.
int rank_of(const std::string& kind) {
  static const std::map<std::string, int> kRanks = {
      {"replica", 0}, {"model", 1}, {"run", 1}, {"data", 2}, {"code", 3}, {"env", 4}, {"host", 5}};
  const auto found = kRanks.find(kind);
  return found == kRanks.end() ? 6 : found->second;
}

struct Pointer {
  std::string kind;
  std::string digest;
};

std::vector<Pointer> pointers_of(const std::string& kind, const Json& record) {
  std::vector<Pointer> found;
  const auto add = [&](const char* to, const char* key) {
    if (record[key].is_string()) found.push_back({to, record[key].as_string()});
    for (const std::string& digest : record[key].as_strings()) found.push_back({to, digest});
  };
  if (kind == "replica") add("model", "model");
  if (kind == "model") add("run", "run");
  if (kind == "run") {
    add("run", "resumes");
    add("model", "upstream");
    add("data", "data");
  }
  if (kind == "replica" || kind == "run") {
    add("code", "code");
    add("env", "env");
    add("host", "host");
  }
  return found;
}

}  // namespace

Json with_fractions_as_strings(const Json& value) {
  if (value.is_double()) return fraction_text(value.as_double());
  if (value.is_int() && std::llabs(value.as_int()) > kJsonIntMax)
    return std::to_string(value.as_int());
  if (value.is_array()) {
    Json::Array items;
    for (const Json& item : value.as_array()) items.push_back(with_fractions_as_strings(item));
    return items;
  }
  if (value.is_object()) {
    Json::Object members;
    for (const auto& [key, member] : value.as_object())
      members.emplace(key, with_fractions_as_strings(member));
    return members;
  }
  return value;
}

Json host_record(const Json& facts, const Json& guards) {
  Json record = begin("host");
  record.set("facts", with_fractions_as_strings(facts));
  record.set("guards", with_fractions_as_strings(guards));
  return record;
}

Json env_record(const Json& lock_section, const std::string& tree) {
  Json record = begin("env");
  record.set("lock", with_fractions_as_strings(lock_section));
  record.set("tree", pointer(tree));
  return record;
}

Json code_record(const std::string& tree, std::uint64_t files, std::uint64_t size_bytes) {
  Json record = begin("code");
  record.set("tree", tree);
  record.set("files", files);
  record.set("size_bytes", size_bytes);
  return record;
}

Json data_record(const std::string& name, const Json& fingerprint) {
  Json record = begin("data");
  record.set("name", name);
  record.set("fingerprint", with_fractions_as_strings(fingerprint));
  return record;
}

Json run_record(const RunFacts& facts) {
  const auto object = [](const Json& value) {
    return with_fractions_as_strings(or_empty(value, Json::object()));
  };
  Json record = begin("run");
  record.set("run", facts.run);
  record.set("step", facts.step);
  record.set("project", facts.project);
  record.set("user", facts.user);
  record.set("command", facts.command);
  record.set("params", object(facts.params));
  record.set("vars", object(facts.vars));
  record.set("secrets", Json::array_of(facts.secrets));
  record.set("metrics", object(facts.metrics));
  record.set("resources", object(facts.resources));
  record.set("missing_guards",
             with_fractions_as_strings(or_empty(facts.missing_guards, Json::array())));
  record.set("outcome", facts.outcome);
  record.set("attempt", facts.attempt);
  record.set("checkpoint", facts.checkpoint.empty() ? Json() : Json(facts.checkpoint));
  record.set("resumes", pointer(facts.resumes));
  record.set("started_ms", facts.started_ms);
  record.set("ended_ms", facts.ended_ms);
  record.set("env", pointer(facts.env));
  record.set("code", pointer(facts.code));
  record.set("host", pointer(facts.host));
  record.set("data", Json::array_of(facts.data));
  record.set("upstream", Json::array_of(facts.upstream));
  return record;
}

Json model_record(const ModelFacts& facts) {
  Json record = begin("model");
  record.set("model", facts.model);
  record.set("number", facts.version);
  record.set("tree", facts.tree);
  record.set("size_bytes", facts.size_bytes);
  record.set("run", pointer(facts.run));
  record.set("imported_from", facts.imported_from.empty() ? Json() : Json(facts.imported_from));
  record.set("created_ms", facts.created_ms);
  return record;
}

Json replica_record(const ReplicaFacts& facts) {
  Json record = begin("replica");
  record.set("service", facts.service);
  record.set("attempt", facts.attempt);
  record.set("handler", facts.handler);
  record.set("model", pointer(facts.model));
  record.set("env", pointer(facts.env));
  record.set("code", pointer(facts.code));
  record.set("host", pointer(facts.host));
  record.set("missing_guards",
             with_fractions_as_strings(or_empty(facts.missing_guards, Json::array())));
  record.set("started_ms", facts.started_ms);
  return record;
}

// Depth first, an explicit stack: what a record points at comes after it, in the order of
// pointers_of(). A record below the top that is no longer there is a layer without content, so that
// the rest is shown.
Result<std::vector<Layer>> follow(const store::Store& store, const Digest& top) {
  const Json first = LOAM_TRY(store.get_record(top));
  if (!first["record"].is_string())
    return fail(ErrorCode::invalid, top.short_hex() + ": is no record");
  std::vector<Layer> layers;
  std::set<std::string> seen;
  std::vector<Pointer> stack{{first["record"].as_string(), top.hex()}};
  while (!stack.empty() && layers.size() < kLayersMax) {
    const Pointer at = std::move(stack.back());
    stack.pop_back();
    if (!seen.insert(at.digest).second) continue;
    const auto digest = Digest::parse(at.digest);
    auto record = digest ? store.get_record(*digest) : Result<Json>(Json());
    layers.push_back(
        {at.kind, digest ? digest->hex() : at.digest, record ? std::move(*record) : Json()});
    std::vector<Pointer> below = pointers_of(at.kind, layers.back().record);
    for (auto next = below.rbegin(); next != below.rend(); ++next)
      stack.push_back(std::move(*next));
  }
  std::stable_sort(layers.begin(), layers.end(), [](const Layer& a, const Layer& b) {
    return rank_of(a.kind) < rank_of(b.kind);
  });
  return layers;
}

}  // namespace loam::trace
