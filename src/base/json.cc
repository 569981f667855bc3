#include "base/json.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace loam {
namespace {

const Json kNull;
const std::string kEmptyString;
const Json::Array kEmptyArray;
const Json::Object kEmptyObject;

// Builds a Json from nlohmann's SAX events; stops at the first thing we do not accept.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return put(Json()); }
  bool boolean(bool value) override { return put(Json(value)); }
  bool number_integer(number_integer_t value) override { return integer(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(kJsonIntMax)) return stop("integer over 2^53");
    return integer(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override {
    if (!std::isfinite(value)) return stop("number out of range");
    return put(Json(value));
  }
  bool string(string_t& value) override { return put(Json(std::move(value))); }
  bool binary(binary_t&) override { return stop("binary value"); }
  bool start_object(std::size_t) override { return open(Json(Json::Object{})); }
  bool key(string_t& value) override {
    if (stack_.back().value.as_object().contains(value)) return stop("duplicate key '" + value + "'");
    stack_.back().key = std::move(value);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json(Json::Array{})); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return stop("not JSON at byte " + std::to_string(position));
  }

  Json result;
  std::string error;

 private:
  struct Level {
    Json value;
    std::string key;
  };

  bool integer(std::int64_t value) {
    if (value > kJsonIntMax || value < -kJsonIntMax) return stop("integer over 2^53");
    return put(Json(value));
  }
  bool stop(std::string text) {
    if (error.empty()) error = std::move(text);
    return false;
  }
  bool open(Json container) {
    if (stack_.size() >= kJsonDepthMax) return stop("nested deeper than 64");
    stack_.push_back({std::move(container), {}});
    return true;
  }
  bool close() {
    Json done = std::move(stack_.back().value);
    stack_.pop_back();
    return put(std::move(done));
  }
  bool put(Json value) {
    if (stack_.empty()) {
      result = std::move(value);
    } else if (stack_.back().value.is_array()) {
      stack_.back().value.push(std::move(value));
    } else {
      stack_.back().value.set(std::move(stack_.back().key), std::move(value));
    }
    return true;
  }

  std::vector<Level> stack_;
};

void write_string(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (byte < 0x20) {
          out += "\\u00";
          out += kHex[byte >> 4];
          out += kHex[byte & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void write_double(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  const std::string_view text(buffer, static_cast<std::size_t>(end.ptr - buffer));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

struct Layout {
  int indent_step = 0;  // 0: canonical
  int depth = 0;
};

void newline(std::string& out, const Layout& layout) {
  if (layout.indent_step == 0) return;
  out += '\n';
  out.append(static_cast<std::size_t>(layout.indent_step * layout.depth), ' ');
}

void write(std::string& out, const Json& value, Layout layout);

void write_array(std::string& out, const Json& value, Layout layout) {
  out += '[';
  ++layout.depth;
  bool first = true;
  for (const Json& item : value.as_array()) {
    if (!first) out += ',';
    first = false;
    newline(out, layout);
    write(out, item, layout);
  }
  --layout.depth;
  if (!first) newline(out, layout);
  out += ']';
}

void write_object(std::string& out, const Json& value, Layout layout) {
  out += '{';
  ++layout.depth;
  bool first = true;
  for (const auto& [key, member] : value.as_object()) {
    if (!first) out += ',';
    first = false;
    newline(out, layout);
    write_string(out, key);
    out += layout.indent_step == 0 ? ":" : ": ";
    write(out, member, layout);
  }
  --layout.depth;
  if (!first) newline(out, layout);
  out += '}';
}

void write(std::string& out, const Json& value, Layout layout) {
  if (value.is_null()) out += "null";
  if (value.is_bool()) out += value.as_bool() ? "true" : "false";
  if (value.is_int()) out += std::to_string(value.as_int());
  if (value.is_double()) write_double(out, value.as_double());
  if (value.is_string()) write_string(out, value.as_string());
  if (value.is_array()) write_array(out, value, layout);
  if (value.is_object()) write_object(out, value, layout);
}

}  // namespace

Json Json::object(std::initializer_list<std::pair<const std::string, Json>> members) {
  return Json(Object(members));
}

Json Json::array(std::initializer_list<Json> items) { return Json(Array(items)); }

Json Json::array_of(const std::vector<std::string>& strings) {
  return Json(Array(strings.begin(), strings.end()));
}

bool Json::as_bool(bool fallback) const {
  const bool* value = std::get_if<bool>(&value_);
  return value != nullptr ? *value : fallback;
}

std::int64_t Json::as_int(std::int64_t fallback) const {
  const auto* value = std::get_if<std::int64_t>(&value_);
  return value != nullptr ? *value : fallback;
}

double Json::as_double(double fallback) const {
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  const double* value = std::get_if<double>(&value_);
  return value != nullptr ? *value : fallback;
}

const std::string& Json::as_string() const {
  const auto* value = std::get_if<std::string>(&value_);
  return value != nullptr ? *value : kEmptyString;
}

const Json::Array& Json::as_array() const {
  const auto* value = std::get_if<Array>(&value_);
  return value != nullptr ? *value : kEmptyArray;
}

const Json::Object& Json::as_object() const {
  const auto* value = std::get_if<Object>(&value_);
  return value != nullptr ? *value : kEmptyObject;
}

std::vector<std::string> Json::as_strings() const {
  std::vector<std::string> strings;
  for (const Json& item : as_array())
    if (item.is_string()) strings.push_back(item.as_string());
  return strings;
}

const Json& Json::operator[](std::string_view key) const {
  const Object& object = as_object();
  const auto found = object.find(key);
  return found != object.end() ? found->second : kNull;
}

Result<std::string> Json::string_at(std::string_view key) const {
  const Json& member = (*this)[key];
  if (!member.is_string()) return fail(ErrorCode::invalid, "'" + std::string(key) + "': expected a string");
  return member.as_string();
}

Result<std::int64_t> Json::int_at(std::string_view key) const {
  const Json& member = (*this)[key];
  if (!member.is_int()) return fail(ErrorCode::invalid, "'" + std::string(key) + "': expected an integer");
  return member.as_int();
}

Result<bool> Json::bool_at(std::string_view key) const {
  const Json& member = (*this)[key];
  if (!member.is_bool()) return fail(ErrorCode::invalid, "'" + std::string(key) + "': expected true or false");
  return member.as_bool();
}

Json& Json::set(std::string key, Json value) {
  if (is_null()) value_ = Object{};
  LOAM_ASSERT(is_object());
  return std::get<Object>(value_)[std::move(key)] = std::move(value);
}

Json& Json::push(Json value) {
  if (is_null()) value_ = Array{};
  LOAM_ASSERT(is_array());
  return std::get<Array>(value_).emplace_back(std::move(value));
}

void Json::erase(std::string_view key) {
  if (!is_object()) return;
  auto& object = std::get<Object>(value_);
  if (const auto found = object.find(key); found != object.end()) object.erase(found);
}

std::size_t Json::size() const { return is_array() ? as_array().size() : as_object().size(); }

std::string Json::dump() const {
  std::string out;
  write(out, *this, {});
  return out;
}

std::string Json::pretty() const {
  std::string out;
  write(out, *this, {.indent_step = 2});
  return out;
}

Result<Json> Json::parse(std::string_view text) {
  Builder builder;
  const bool parsed = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (!parsed) return fail(ErrorCode::invalid, builder.error.empty() ? "not JSON" : builder.error);
  return std::move(builder.result);
}

}  // namespace loam
