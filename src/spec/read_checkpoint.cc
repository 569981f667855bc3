// What of a step outlives its attempts, and which of its ends are tried again: checkpoint, retry_on.
#include <signal.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"
#include "spec/scalar.h"

namespace loam::spec {
namespace {

constexpr DurationRange kGrace{std::chrono::seconds(1), std::chrono::hours(24)};
constexpr IntegerRange kKeep{1, 1000};
constexpr std::int64_t kExitStatusMax = 255;
constexpr std::string_view kFolder = "the folder of checkpoints, such as checkpoints";
constexpr std::string_view kResume =
    "arguments for the command, such as \"--resume_from_checkpoint {path}\"";
constexpr std::string_view kOutcomes =
    "node, oom, time, start, output, signal, signal:NAME, exit or exit:N (1 to 255)";

struct NamedSignal {
  std::string_view name;
  int number;
};
// What programs catch to save and end. KILL and STOP cannot be caught.
constexpr std::array kSignals{
    NamedSignal{"USR1", SIGUSR1}, NamedSignal{"USR2", SIGUSR2}, NamedSignal{"HUP", SIGHUP},
    NamedSignal{"INT", SIGINT},   NamedSignal{"QUIT", SIGQUIT}, NamedSignal{"ALRM", SIGALRM},
    NamedSignal{"TERM", SIGTERM}};
// What ends a process that went wrong, besides.
constexpr std::array kFaults{NamedSignal{"KILL", SIGKILL}, NamedSignal{"SEGV", SIGSEGV},
                             NamedSignal{"BUS", SIGBUS},   NamedSignal{"ABRT", SIGABRT},
                             NamedSignal{"ILL", SIGILL},   NamedSignal{"FPE", SIGFPE},
                             NamedSignal{"PIPE", SIGPIPE}};

std::string_view without_prefix(std::string_view name) {
  return name.starts_with("SIG") ? name.substr(3) : name;
}

template <std::size_t kCount>
int signal_named(const std::array<NamedSignal, kCount>& signals, std::string_view name) {
  for (const NamedSignal& signal : signals)
    if (signal.name == without_prefix(name)) return signal.number;
  return 0;
}

int read_signal(const Value& value, int fallback) {
  std::vector<std::string> names;
  for (const NamedSignal& signal : kSignals) names.emplace_back(signal.name);
  const auto name = value.text(one_of(names));
  if (!name) return fallback;
  if (const int number = signal_named(kSignals, *name); number != 0) return number;
  value.problem(quoted(*name) + " is not known here; expected " + one_of(names) +
                did_you_mean(*name, names));
  return fallback;
}

// The name of one entry of the folder: a pattern that crosses folders would match within checkpoints.
std::optional<std::string> read_match(const Value& value) {
  const auto pattern = read_project_pattern(value, "a pattern such as checkpoint-*");
  if (!pattern) return {};
  if (value.node().text.find('/') != std::string::npos || *pattern == "**") {
    value.problem(quoted(*pattern) +
                  " names more than an entry of the folder; expected a pattern such as checkpoint-*");
    return {};
  }
  if (pattern->starts_with(".loam")) {
    value.problem(quoted(*pattern) + " begins as Loam's own names there; expected another pattern");
    return {};
  }
  return pattern;
}

std::vector<std::string> read_resume(const Value& value) {
  std::vector<std::string> words;
  if (value.is_list()) {
    for (const Value& item : value.items(kResume))
      if (const auto word = item.written("an argument")) words.push_back(*word);
  } else if (const auto text = value.text(kResume)) {
    std::string word;
    for (const char c : *text + " ") {
      const bool blank = c == ' ' || c == '\t' || c == '\n';
      if (!blank) word += c;
      if (blank && !word.empty()) words.push_back(std::exchange(word, {}));
    }
  }
  for (const std::string& word : words)
    if (word.size() > kArgumentBytesMax / 2) value.problem("is too long for a command");
  return words;
}

std::optional<RetryOn> parse_outcome(const std::string& text) {
  static constexpr std::array kPlain{std::pair{"node", RetryOn::Kind::node},
                                     std::pair{"oom", RetryOn::Kind::out_of_memory},
                                     std::pair{"time", RetryOn::Kind::time},
                                     std::pair{"start", RetryOn::Kind::start},
                                     std::pair{"output", RetryOn::Kind::output},
                                     std::pair{"signal", RetryOn::Kind::signal},
                                     std::pair{"exit", RetryOn::Kind::exit}};
  for (const auto& [name, kind] : kPlain)
    if (text == name) return RetryOn{kind, std::nullopt};
  if (text.starts_with("exit:")) {
    const auto status = parse_integer(text.substr(5));
    if (status && *status >= 1 && *status <= kExitStatusMax && !has_leading_zero(text.substr(5)))
      return RetryOn{RetryOn::Kind::exit, static_cast<int>(*status)};
  }
  if (text.starts_with("signal:")) {
    const std::string name = text.substr(7);
    int number = signal_named(kSignals, name);
    if (number == 0) number = signal_named(kFaults, name);
    if (number != 0) return RetryOn{RetryOn::Kind::signal, number};
  }
  return {};
}

}  // namespace

std::string arguments_problem(std::string_view text) {
  text = trim(text);
  const std::string_view line = text.substr(text.rfind('\n') + 1);
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (quote != 0)
      quote = line[i] == quote ? '\0' : quote;
    else if (line[i] == '\'' || line[i] == '"')
      quote = line[i];
    else if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t'))
      return "ends in a comment";
  }
  const std::string_view word = line.substr(line.find_last_of(" \t;") + 1);
  for (const std::string_view keyword : {"done", "fi", "esac"})
    if (word == keyword) return "ends in " + quoted(word);
  if (!text.empty() && std::string_view(";&|)}\\").find(text.back()) != std::string_view::npos)
    return "ends in " + quoted(text.substr(text.size() - 1));
  return "";
}

ReadCheckpoint read_checkpoint(const Value& value) {
  std::optional<Value> path;
  Checkpoint checkpoint;
  if (value.is_text()) {
    path = value;
  } else {
    const Section section(value, {"path", "match", "signal", "grace", "keep", "resume"},
                          "a folder, or a map with path and more");
    path = section.need("path", kFolder);
    if (const auto match = section.find("match"))
      checkpoint.match = read_match(*match).value_or(checkpoint.match);
    if (const auto signal = section.find("signal"))
      checkpoint.signal = read_signal(*signal, checkpoint.signal);
    if (const auto grace = section.find("grace"))
      checkpoint.grace = grace->duration(kGrace).value_or(checkpoint.grace);
    if (const auto keep = section.find("keep"))
      checkpoint.keep = static_cast<int>(keep->integer(kKeep).value_or(checkpoint.keep));
    if (const auto resume = section.find("resume")) checkpoint.resume = read_resume(*resume);
  }
  if (!path) return {checkpoint, {}};
  checkpoint.path = read_project_path(*path, kFolder).value_or("");
  if (checkpoint.path.find_first_of("*?") != std::string::npos)
    path->problem(quoted(checkpoint.path) + " is a pattern; expected " + std::string(kFolder));
  return {checkpoint, Reference{checkpoint.path, path->place(), path->key()}};
}

std::vector<RetryOn> read_retry_on(const Value& value) {
  std::vector<RetryOn> outcomes;
  for (const Value& item : value.items("a list such as [node, oom, exit:75]")) {
    const auto text = item.text(kOutcomes);
    if (!text) continue;
    const auto outcome = parse_outcome(*text);
    if (!outcome)
      item.problem(
          quoted(*text) + " is no outcome; expected " + std::string(kOutcomes) +
          did_you_mean(*text, {"node", "oom", "time", "start", "output", "signal", "exit"}));
    else if (std::find(outcomes.begin(), outcomes.end(), *outcome) != outcomes.end())
      item.problem(quoted(*text) + " is listed twice");
    else
      outcomes.push_back(*outcome);
  }
  if (value.is_list() && value.node().items.empty())
    value.problem("is an empty list; leave the key out where every failure is tried again");
  return outcomes;
}

}  // namespace loam::spec
