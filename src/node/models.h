// Models and their versions: a version is an immutable tree and the record that says where it came
// from. A user's models are his own; numbers are never given twice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "node/database.h"

namespace loam::node {

struct ModelVersion {
  std::uint32_t uid = 0;
  std::string name;
  std::int64_t version = 0;
  std::string record;  // digest of the model record
  std::string tree;
  std::int64_t size_bytes = 0;
  std::int64_t created_ms = 0;
  std::int64_t run = 0;  // 0: imported
  std::string step;
  std::string imported;  // the path it came from
  std::string project;
};

struct ModelName {
  std::string name;
  std::optional<std::int64_t> version;
};
// "digits" or "digits@3".
Result<ModelName> parse_model_name(std::string_view text);
bool is_model_name(std::string_view name);

class Models {
 public:
  explicit Models(Database& database) : database_(database) {}

  // The number that the next version of this model will have.
  std::int64_t next_version(std::uint32_t uid, const std::string& name);
  void add(const ModelVersion& version);
  std::vector<ModelVersion> all(std::uint32_t uid);  // by name, then version
  std::vector<ModelVersion> versions(std::uint32_t uid, const std::string& name);
  std::optional<ModelVersion> find(std::uint32_t uid,
                                   const ModelName& name);  // newest without a number
  std::vector<std::string> names(std::uint32_t uid);
  void remove(const ModelVersion& version);
  std::vector<ModelVersion> everybodys();

 private:
  std::vector<ModelVersion> select(const std::string& where, const std::vector<Value>& values);
  Database& database_;
};

Json to_json(const ModelVersion& version);

}  // namespace loam::node
