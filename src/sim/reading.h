// What the readers of both formats share: where they put jobs, names and findings.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/lines.h"
#include "sim/trace.h"

namespace loam::sim {

class Names {
 public:
  explicit Names(std::vector<std::string>& texts) : texts_(texts) {}
  // Nothing where there are too many, or this one is too long.
  std::optional<std::uint32_t> index_of(std::string_view name);

 private:
  std::vector<std::string>& texts_;
  std::unordered_map<std::string, std::uint32_t> indexes_;  // looked up, never gone through
};

class Reading {
 public:
  Reading(Trace& trace, const ReadOptions& options, Lines& lines)
      : lines_(lines),
        trace_(trace),
        users_(trace.users),
        accounts_(trace.accounts),
        options_(options) {}

  // "FILE:LINE: TEXT" about the current line, whose job is then not added.
  void finding(const std::string& text);
  void left_out(const std::string& why) { ++trace_.left_out[why]; }
  void note(const std::string& text) { trace_.notes.push_back(text); }
  // Values of one line: each notes a finding where the text is none, or out of range.
  std::optional<double> amount(std::string_view what, std::string_view text, double most);
  std::optional<std::int64_t> length(std::string_view what, std::string_view text);
  std::optional<std::int64_t> instant(std::string_view what, std::string_view text);
  std::optional<std::uint32_t> user(std::string_view name);
  std::optional<std::uint32_t> account(std::string_view name);
  // false: there are too many.
  bool add(Job job);
  bool enough() const { return !options_.skip_bad && findings_.size() > kFindingsMax; }
  // The error that the findings make, if any.
  Result<void> result() const;

  Trace& trace() { return trace_; }
  Lines& lines_;

 private:
  std::optional<std::uint32_t> name(Names& names, std::string_view what, std::string_view text);
  Trace& trace_;
  Names users_, accounts_;
  const ReadOptions& options_;
  std::vector<std::string> findings_;
};

// `line` is the first that is neither empty nor a comment; more come from Reading::lines_.
Result<void> read_swf(Reading& reading, std::string line);
Result<void> read_csv(Reading& reading, std::string line);
// "; MaxProcs: 128" of an SWF file's head.
void read_swf_comment(Reading& reading, std::string_view line);

}  // namespace loam::sim
