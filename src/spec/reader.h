// The machinery of reading: values that know their place and key path, and note problems instead of
// stopping at the first. A read_X function asks for what it needs; where a value is wrong, the
// problem is noted and the default stays, so that reading goes on and finds all the others.
//
//   Node ── Value (typed questions) / Section (a map with known keys) ──▶ fields of Project
//                         └──────────▶ Reader::problems
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spec/node.h"
#include "spec/project.h"

namespace loam::spec {

// A key that people put a level too high or too low, and where it belongs ("under resources:").
struct KeyHome {
  std::string_view key;
  std::string_view where;
};
std::span<const KeyHome> project_key_homes();

struct Reader {
  const Folder* folder = nullptr;
  const std::vector<std::string>* known_models = nullptr;
  std::vector<Problem> problems;
  std::span<const KeyHome> homes;

  void problem(Place place, std::string key, std::string message) {
    problems.push_back({place, std::move(key), std::move(message)});
  }
  std::vector<Problem> in_file_order();  // what was noted, handed over
};

struct IntegerRange {
  std::int64_t min = 0;
  std::int64_t max = 0;
};
struct NumberRange {
  double min = 0;
  double max = 0;
};
struct SizeRange {
  std::uint64_t min_bytes = 0;
  std::uint64_t max_bytes = 0;
};
struct DurationRange {
  std::chrono::nanoseconds min{0};
  std::chrono::nanoseconds max{0};
};

struct NamedValue;

// A node in its context. Cheap to copy; lives as long as the Reader and the tree.
class Value {
 public:
  Value(Reader& reader, const Node& node, std::string key, Place key_place)
      : reader_(&reader), node_(&node), key_(std::move(key)), key_place_(key_place) {}

  Reader& reader() const { return *reader_; }
  const Node& node() const { return *node_; }
  const std::string& key() const { return key_; }
  Place place() const { return node_->place; }
  Place key_place() const { return key_place_; }  // the value's own where it has no key
  bool is_scalar() const { return node_->kind == Node::Kind::scalar; }
  bool is_text() const;
  bool is_list() const { return node_->kind == Node::Kind::list; }
  bool is_map() const { return node_->kind == Node::Kind::map; }

  void problem(std::string message) const { reader_->problem(place(), key_, std::move(message)); }
  // "expected EXPECTED, found the number 3"
  void wrong_type(std::string_view expected) const;

  // Each notes a problem and returns none where the value is something else.
  std::optional<std::string> text(std::string_view expected) const;     // not empty
  std::optional<std::string> written(std::string_view expected) const;  // any scalar, as written
  std::optional<bool> boolean() const;
  std::optional<std::int64_t> integer(IntegerRange range) const;
  std::optional<double> number(NumberRange range) const;
  std::optional<std::uint64_t> size_bytes(SizeRange range) const;
  std::optional<std::chrono::nanoseconds> duration(DurationRange range) const;
  std::optional<std::size_t> choice(const std::vector<std::string>& choices) const;  // its index
  enum class Items { texts, maps };  // of maps no text is near: no mend is offered
  std::vector<Value> items(std::string_view expected,
                           Items kind = Items::texts) const;         // of a list; else none
  std::vector<NamedValue> members(std::string_view expected) const;  // of a map; else none

 private:
  Reader* reader_;
  const Node* node_;
  std::string key_;
  Place key_place_;
};

struct NamedValue {
  std::string name;
  Value value;
};

// A map whose keys are known. Making it notes a value that is no map and every unknown key, with
// the nearest known one or the place where that key belongs.
class Section {
 public:
  Section(const Value& value, std::vector<std::string> keys, std::string_view expected);

  std::optional<Value> find(std::string_view key) const;
  // Notes a missing key, unless another was probably meant as it; `expected` says what should be
  // there.
  std::optional<Value> need(std::string_view key, std::string_view expected) const;
  const Value& value() const { return value_; }

 private:
  void unknown_key(const Member& member, const std::vector<std::string>& keys);

  Value value_;
  std::vector<std::string> meant_;  // known keys that unknown ones were probably meant as
  bool merged_ = false;             // "<<": what it was to bring is not called missing
};

// "'a', 'b' or 'c'"
std::string one_of(const std::vector<std::string>& choices);
// "; did you mean 'X'?" or "".
std::string did_you_mean(std::string_view wrong, const std::vector<std::string>& candidates);

}  // namespace loam::spec
