#include "spec/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>

#include "base/text.h"
#include "spec/bytes.h"
#include "spec/yaml_words.h"

namespace loam::spec {
namespace {

// The text with its lines: yaml-cpp's marks count bytes, ours characters.
class Source {
 public:
  explicit Source(std::string_view text) : indentation(text), text_(text) {
    line_starts_.push_back(0);
    for (std::size_t i = 0; i < text.size(); ++i)
      if (text[i] == '\n') line_starts_.push_back(i + 1);
  }

  // Marks mostly come in order, so that counting goes on from the last one: a file may be one long
  // line.
  Place place_of(const YAML::Mark& mark) const {
    if (mark.is_null() || mark.line < 0 || mark.column < 0) return {1, 1};
    const auto line = std::min(static_cast<std::size_t>(mark.line), line_starts_.size() - 1);
    const auto end =
        std::min(line_starts_[line] + static_cast<std::size_t>(mark.column), text_.size());
    if (line != last_line_ || end < last_end_) {
      last_line_ = line;
      last_end_ = line_starts_[line];
      last_characters_ = 0;
    }
    for (; last_end_ < end; ++last_end_)
      if ((static_cast<unsigned char>(text_[last_end_]) & 0xC0u) != 0x80u) ++last_characters_;
    return {static_cast<int>(line) + 1, last_characters_ + 1};
  }
  // yaml-cpp takes a quoted scalar that the end of the file cuts off. `mark` is a scalar's.
  bool closes_quote(const YAML::Mark& mark) const;

  const Indentation indentation;

 private:
  std::string_view text_;
  std::vector<std::size_t> line_starts_;
  mutable std::size_t last_line_ = 0;
  mutable std::size_t last_end_ = 0;
  mutable int last_characters_ = 0;
};

// Past "&anchor " and "!tag " to the value.
std::string_view without_properties(std::string_view rest) {
  static constexpr std::string_view kBlanks = " \t\r\n";
  while (rest.starts_with('&') || rest.starts_with('!')) {
    const auto end = rest.find_first_of(kBlanks);
    const auto next = rest.find_first_not_of(kBlanks, end);
    if (end == std::string_view::npos || next == std::string_view::npos) return "";
    rest.remove_prefix(next);
  }
  return rest;
}

bool Source::closes_quote(const YAML::Mark& mark) const {
  if (mark.is_null() || static_cast<std::size_t>(mark.line) >= line_starts_.size()) return true;
  const auto at =
      line_starts_[static_cast<std::size_t>(mark.line)] + static_cast<std::size_t>(mark.column);
  if (at >= text_.size()) return true;
  const std::string_view rest = without_properties(text_.substr(at));
  if (rest.empty() || (rest[0] != '"' && rest[0] != '\'')) return true;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[0] == '"' && rest[i] == '\\')
      ++i;
    else if (rest[i] == rest[0] && rest[0] == '\'' && rest.substr(i + 1).starts_with('\''))
      ++i;
    else if (rest[i] == rest[0])
      return true;
  }
  return false;
}

// What a subtree adds to the document, and how deep it goes.
struct Cost {
  std::size_t nodes = 0;
  std::size_t bytes = 0;
  std::size_t depth = 0;
};

Cost cost_of(const Node& node) {
  Cost cost{1, node.text.size(), 1};
  const auto add = [&](const Node& child) {
    const Cost part = cost_of(child);
    cost.nodes += part.nodes;
    cost.bytes += part.bytes;
    cost.depth = std::max(cost.depth, part.depth + 1);
  };
  for (const Node& item : node.items) add(item);
  for (const Member& member : node.members) {
    cost.bytes += member.key.size();
    add(member.value);
  }
  return cost;
}

std::string depth_message() {
  return "nested deeper than " + std::to_string(kDepthMax) + " levels";
}

// Builds the tree. Past a limit it notes the problem once and ignores what follows: yaml-cpp's
// events cannot be stopped other than by throwing, and at most kFileBytesMax bytes remain.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(const Source& source) : source_(source) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ == 0 || stopped_) return;
    second_document = source_.place_of(mark);
    stopped_ = true;
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (stopped_) return;
    Node node;
    node.place = source_.place_of(mark);
    put(std::move(node), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override;
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override;
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::list, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::map, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

  std::optional<Node> root;
  std::vector<Problem> problems;
  std::optional<Place> second_document;
  bool stopped() const { return stopped_; }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = 0;
    std::optional<Node> key;              // of a map: read, its value still to come
    std::map<std::string, Place> places;  // of a map: its keys so far
  };

  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor);
  void close();
  void put(Node node, YAML::anchor_t anchor);
  void put_member(Frame& frame, Node value);
  bool pay(const Cost& cost, Place place);
  void stop(Place place, std::string message);
  void problem(Place place, std::string key, std::string message);
  std::string path() const;
  bool check_tag(Place place, const std::string& tag, std::string_view allowed);
  void check_tab(Place place);

  const Source& source_;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, Node> anchors_;
  Cost spent_;
  int documents_ = 0;
  int tab_line_ = 0;
  bool stopped_ = false;
};

void Builder::problem(Place place, std::string key, std::string message) {
  problems.push_back({place, std::move(key), std::move(message)});
}

void Builder::stop(Place place, std::string message) {
  if (!stopped_) problem(place, "", std::move(message));
  stopped_ = true;
}

std::string Builder::path() const {
  std::string text;
  for (const Frame& frame : stack_) {
    if (frame.node.kind == Node::Kind::list) text = join_index(text, frame.node.items.size());
    const bool named = frame.key && frame.key->kind == Node::Kind::scalar;
    if (frame.node.kind == Node::Kind::map && named) text = join_key(text, frame.key->text);
  }
  return text;
}

// Plain scalars come with "?", quoted ones with "!".
bool Builder::check_tag(Place place, const std::string& tag, std::string_view allowed) {
  if (tag.empty() || tag == "?" || tag == "!" || tag == allowed) return true;
  static constexpr std::string_view kStandard = "tag:yaml.org,2002:";
  const std::string written =
      tag.starts_with(kStandard) ? "!!" + tag.substr(kStandard.size()) : tag;
  problem(place, path(),
          "the tag " + quoted(written) +
              " is not known here; remove it, or put text that begins with '!' in quotes");
  return false;
}

// YAML forbids tabs as indentation; yaml-cpp lets some pass. A value that begins a line is what
// counts: tabs within a block of text or a longer string are the user's.
void Builder::check_tab(Place place) {
  const int column = source_.indentation.tab_column(place.line);
  if (column == 0 || place.line == tab_line_ ||
      source_.indentation.content_column(place.line) != place.column)
    return;
  tab_line_ = place.line;
  problem({place.line, column}, "", "a tab indents this line; indent with spaces");
}

void Builder::OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       const std::string& value) {
  if (stopped_) return;
  Node node;
  node.kind = Node::Kind::scalar;
  node.place = source_.place_of(mark);
  node.text = value;
  node.quoted = tag != "?";
  if (node.quoted && !source_.closes_quote(mark))
    return stop(node.place, "not valid YAML: this quote is never closed");
  check_tab(node.place);
  // What was meant as text and read as a tag is not empty, too.
  if (!check_tag(node.place, tag, "tag:yaml.org,2002:str") && value.empty()) node.text = tag;
  if (value.find('\0') != std::string::npos || !is_utf8(value)) {
    problem(node.place, path(), "an escape makes a NUL byte or no valid character; remove it");
    node.text = "?";
  }
  put(std::move(node), anchor);
}

void Builder::OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) {
  if (stopped_) return;
  const Place place = source_.place_of(mark);
  const auto found = anchors_.find(anchor);
  if (found == anchors_.end()) return stop(place, "this alias refers to a value that contains it");
  const Cost cost = cost_of(found->second);
  if (stack_.size() + cost.depth > kDepthMax + 1) return stop(place, depth_message());
  if (!pay(cost, place)) return;
  Node copy = found->second;
  put(std::move(copy), 0);
}

void Builder::open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag,
                   YAML::anchor_t anchor) {
  if (stopped_) return;
  const Place place = source_.place_of(mark);
  if (stack_.size() >= kDepthMax) return stop(place, depth_message());
  check_tab(place);
  check_tag(place, tag,
            kind == Node::Kind::map ? "tag:yaml.org,2002:map" : "tag:yaml.org,2002:seq");
  Frame frame;
  frame.node.kind = kind;
  frame.node.place = place;
  frame.anchor = anchor;
  stack_.push_back(std::move(frame));
}

void Builder::close() {
  if (stopped_) return;
  Frame frame = std::move(stack_.back());
  stack_.pop_back();
  put(std::move(frame.node), frame.anchor);
}

bool Builder::pay(const Cost& cost, Place place) {
  spent_.nodes += cost.nodes;
  spent_.bytes += cost.bytes;
  if (spent_.nodes <= kNodesMax && spent_.bytes <= kTextBytesMax) return true;
  stop(place, "the file has more than " + std::to_string(kNodesMax) + " values or " +
                  std::to_string(kTextBytesMax) + " bytes of text once its aliases are followed");
  return false;
}

void Builder::put(Node node, YAML::anchor_t anchor) {
  if (stopped_) return;
  if (!pay({1, node.text.size(), 1}, node.place)) return;
  if (anchor != 0) anchors_[anchor] = node;
  if (stack_.empty()) {
    root = std::move(node);
    return;
  }
  Frame& frame = stack_.back();
  if (frame.node.kind == Node::Kind::list)
    frame.node.items.push_back(std::move(node));
  else if (!frame.key)
    frame.key = std::move(node);
  else
    put_member(frame, std::move(node));
}

void Builder::put_member(Frame& frame, Node value) {
  const std::string key_path = path();
  Node key = std::move(*frame.key);
  frame.key.reset();
  // What is left out has no place of its own; yaml-cpp gives the next token's.
  if (value.kind == Node::Kind::null && value.place.line > key.place.line) value.place = key.place;
  if (key.kind != Node::Kind::scalar) {
    problem(key.place, key_path,
            key.kind == Node::Kind::null ? "a key is missing before ':'"
                                         : "a key must be text, not a list or a map");
    return;
  }
  if (const auto first = frame.places.find(key.text); first != frame.places.end()) {
    problem(key.place, key_path,
            "this key is given twice; first at line " + std::to_string(first->second.line) +
                ", column " + std::to_string(first->second.column));
    return;
  }
  frame.places.emplace(key.text, key.place);
  frame.node.members.push_back({std::move(key.text), key.place, std::move(value)});
}

}  // namespace

Document read_yaml(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // a byte order mark
  if (auto problems = check_bytes(text); !problems.empty()) return {{}, std::move(problems)};
  const Source source(text);
  Builder builder(source);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (!builder.stopped() && parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    if (!builder.stopped())
      return {{}, {syntax_problem(source.place_of(error.mark), error.msg, source.indentation)}};
  } catch (const std::exception& error) {
    return {{}, {{{1, 1}, "", "not valid YAML: " + printable(error.what())}}};
  }
  if (builder.second_document)
    return {{}, {second_document_problem(*builder.second_document, text)}};
  if (builder.stopped()) return {{}, std::move(builder.problems)};
  if (!builder.root) {
    builder.root.emplace();
    builder.root->place = {1, 1};
  }
  return {std::move(builder.root), std::move(builder.problems)};
}

}  // namespace loam::spec
