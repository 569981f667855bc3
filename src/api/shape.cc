#include "api/shape.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace loam::api {
namespace {

constexpr std::string_view kDescribed = " -- ";

struct Word {
  std::string type;
  std::string description;
  bool nullable = false;
};

Word word_of(const std::string& text) {
  const auto at = text.find(kDescribed);
  Word word{text.substr(0, at),
            at == std::string::npos ? "" : text.substr(at + kDescribed.size())};
  if (word.type.ends_with('?')) word.nullable = true, word.type.pop_back();
  return word;
}

bool is_named(const std::string& type) { return type.front() >= 'A' && type.front() <= 'Z'; }
bool is_choice(const std::string& type) { return type.find('|') != std::string::npos; }

// "why?" → {"why", optional}.
std::pair<std::string, bool> key_of(const std::string& key) {
  return key.ends_with('?') ? std::pair(key.substr(0, key.size() - 1), true) : std::pair(key, false);
}

Json or_null(Json schema) {
  if (schema["type"].is_string()) {
    const Json type = schema["type"];
    schema.set("type", Json::array({type, "null"}));
    if (schema.has("enum")) {
      Json choices = schema["enum"];
      choices.push(nullptr);
      schema.set("enum", std::move(choices));
    }
    return schema;
  }
  if (schema["type"].is_array() || schema.size() == 0) return schema;
  return Json::object({{"anyOf", Json::array({std::move(schema), Json::object({{"type", "null"}})})}});
}

Json schema_of_word(const std::string& text) {
  const Word word = word_of(text);
  Json schema = Json::object();
  if (is_named(word.type))
    schema.set("$ref", "#/components/schemas/" + word.type);
  else if (is_choice(word.type))
    schema = Json::object({{"type", "string"}, {"enum", Json::array_of(split(word.type, '|'))}});
  else if (word.type != "any")
    schema.set("type", word.type);
  if (word.nullable) schema = or_null(std::move(schema));
  if (!word.description.empty()) schema.set("description", word.description);
  return schema;
}

std::string name_of_kind(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_bool()) return "a boolean";
  if (value.is_int()) return "a whole number";
  if (value.is_double()) return "a fraction";
  if (value.is_string()) return "text";
  return value.is_array() ? "a list" : "an object";
}

bool is_of(const std::string& type, const Json& value) {
  if (type == "any") return true;
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_int();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_bool();
  const auto choices = split(type, '|');
  return is_choice(type) && value.is_string() &&
         std::find(choices.begin(), choices.end(), value.as_string()) != choices.end();
}

Result<void> wrong(const std::string& place, const std::string& expected, const Json& value) {
  return fail(ErrorCode::invalid,
              place + ": expected " + expected + ", found " + name_of_kind(value));
}

}  // namespace

Json schema_of(const Json& shape, ShapeUse use) {
  if (shape.is_string()) return schema_of_word(shape.as_string());
  if (shape.is_array())
    return Json::object({{"type", "array"}, {"items", schema_of(shape.as_array().front(), use)}});
  if (shape.has("*"))
    return Json::object({{"type", "object"}, {"additionalProperties", schema_of(shape["*"], use)}});
  Json properties = Json::object(), required = Json::array();
  for (const auto& [written, inner] : shape.as_object()) {
    const auto [key, optional] = key_of(written);
    Json schema = schema_of(inner, use);
    if (!optional) required.push(key);
    if (optional && use == ShapeUse::request) schema = or_null(std::move(schema));
    properties.set(key, std::move(schema));
  }
  Json schema = Json::object({{"type", "object"}, {"properties", std::move(properties)}});
  if (required.size() > 0) schema.set("required", std::move(required));
  if (use == ShapeUse::answer) schema.set("additionalProperties", false);
  return schema;
}

Result<void> check_shape(const Json& shape, const Json& value, const std::string& place) {
  if (shape.is_string()) {
    const Word word = word_of(shape.as_string());
    if ((word.nullable && value.is_null()) || is_of(word.type, value)) return {};
    return wrong(place, is_choice(word.type) ? "one of " + join(split(word.type, '|'), ", ")
                        : word.type == "integer" ? "a whole number" : "a " + word.type, value);
  }
  if (shape.is_array()) {
    if (!value.is_array()) return wrong(place, "a list", value);
    for (std::size_t i = 0; i < value.size(); ++i)
      LOAM_CHECK(check_shape(shape.as_array().front(), value.as_array()[i],
                             place + "[" + std::to_string(i) + "]"));
    return {};
  }
  if (!value.is_object()) return wrong(place, "an object", value);
  if (shape.has("*")) {
    for (const auto& [key, inner] : value.as_object())
      LOAM_CHECK(check_shape(shape["*"], inner, place + "." + printable(key)));
    return {};
  }
  for (const auto& [written, inner] : shape.as_object()) {
    const auto [key, optional] = key_of(written);
    const Json& member = value[key];
    if (optional && member.is_null()) continue;
    LOAM_CHECK(check_shape(inner, member, place + "." + key));
  }
  return {};
}

}  // namespace loam::api
