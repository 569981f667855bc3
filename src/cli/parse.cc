#include "cli/parse.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "base/text.h"
#include "cli/on.h"

namespace loam::cli {
namespace {

std::string in_quotes(const std::string& text) { return "'" + printable(text) + "'"; }

Parsed wrong_usage(const std::string& text, const std::string& verb_name) {
  Parsed parsed;
  parsed.status = kExitUsage;
  parsed.text = text + "\ntry: loam help" + (verb_name.empty() ? "" : " " + verb_name);
  return parsed;
}

std::vector<std::string> names_of(const std::vector<Verb>& verbs) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs) names.push_back(verb.name);
  return names;
}

Parsed unknown_verb(const std::vector<Verb>& verbs, const std::string& word,
                    const std::string& parent) {
  const std::string near = nearest(word, names_of(verbs));
  std::string mend = near.empty() ? "" : "; did you mean '" + near + "'?";
  if (mend.empty() && parent != "loam") mend = "; it knows " + join(names_of(verbs), ", ");
  return wrong_usage("'" + parent + "' knows no " + in_quotes(word) + mend,
                     parent == "loam" ? "" : parent.substr(5));
}

// The values that CLI11 found, by key.
struct Holder {
  std::map<std::string, std::vector<std::string>> lists;
  std::map<std::string, bool> flags;
};

void add_options(CLI::App& app, const Verb& verb, Holder& holder) {
  for (const Option& option : verb.options) {
    const std::string key = key_of(option);
    if (option.value.empty()) {
      app.add_flag(option.names, holder.flags[key], option.help);
      continue;
    }
    auto* added = app.add_option(option.names, holder.lists[key], option.help)
                      ->allow_extra_args(false)
                      ->type_name(option.value);
    if (!option.many) added->expected(1);
  }
  for (const Positional& positional : verb.positionals) {
    auto* added = app.add_option(positional.name, holder.lists[positional.name], positional.help);
    added->required(positional.required);
    added->allow_extra_args(positional.many);
    added->expected(1, positional.many ? CLI::detail::expected_max_vector_size : 1);
  }
}

// What stands before "--", and what stands after it; false where there is none.
bool split_command(std::vector<std::string>& words, std::vector<std::string>& command) {
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (dashes == words.end()) return false;
  command.assign(dashes + 1, words.end());
  words.erase(dashes, words.end());
  return true;
}

Parsed parse_with(const Verb& verb, const std::string& name, std::vector<std::string> words) {
  CLI::App app(verb.summary, "loam " + name);
  app.set_help_flag("-h,--help", "print this help");
  Parsed parsed;
  Holder holder;
  add_options(app, verb, holder);
  bool has_dashes = false;
  if (verb.takes_command) {
    has_dashes = split_command(words, parsed.arguments.command);
    app.prefix_command();
  }
  if (const std::string problem = on_problem(verb, name, words); !problem.empty())
    return wrong_usage(problem, name);
  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    parsed.text = help_of(verb, name);
    return parsed;
  } catch (const CLI::ParseError& error) {
    return wrong_usage(printable(error.what()), name);
  }
  std::vector<std::string> rest = app.remaining();
  if (!rest.empty() && rest.front().starts_with("-"))
    return wrong_usage("unknown option " + in_quotes(rest.front()), name);
  if (!rest.empty() && !verb.positionals.empty())
    return wrong_usage("unexpected " + in_quotes(rest.front()) + "; a command follows --", name);
  if (!rest.empty()) {  // a command without dashes before it: any "--" is its own
    if (has_dashes) rest.push_back("--");
    rest.insert(rest.end(), parsed.arguments.command.begin(), parsed.arguments.command.end());
    parsed.arguments.command = std::move(rest);
  }
  if (verb.takes_command && parsed.arguments.command.empty() && verb.name == "run")
    return wrong_usage("which command? loam run [OPTIONS] -- CMD…", name);
  for (const Positional& positional : verb.positionals)
    for (const std::string& value : holder.lists[positional.name])
      if (value.empty()) return wrong_usage(positional.name + " is empty; expected " + positional.help, name);
  for (auto& [key, values] : holder.lists)
    if (!values.empty()) parsed.arguments.set(key, std::move(values));
  for (const auto& [key, given] : holder.flags)
    if (given) parsed.arguments.set(key, {});
  parsed.verb = &verb;
  return parsed;
}

std::string columns_of(const std::vector<std::pair<std::string, std::string>>& rows) {
  std::size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.first.size());
  std::string text;
  for (const auto& [left, right] : rows)
    text += "  " + left + std::string(width - left.size() + 2, ' ') + right + "\n";
  return text;
}

std::string spelled(const Option& option) {
  std::vector<std::string> names = split(option.names, ',');
  return join(names, ", ") + (option.value.empty() ? "" : " " + option.value);
}

}  // namespace

std::string Arguments::value(const std::string& key, const std::string& fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() || found->second.empty() ? fallback : found->second.back();
}

std::vector<std::string> Arguments::list(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? std::vector<std::string>{} : found->second;
}

std::string key_of(const Option& option) {
  std::string key = split(option.names, ',').back();
  key.erase(0, key.find_first_not_of('-'));
  return key;
}

Found find_verb(const std::vector<Verb>& verbs, const std::vector<std::string>& path) {
  Found found;
  const std::vector<Verb>* level = &verbs;
  for (const std::string& word : path) {
    const auto at = std::find_if(level->begin(), level->end(),
                                 [&](const Verb& verb) { return verb.name == word; });
    if (at == level->end()) return {};
    found.verb = &*at;
    found.name += (found.name.empty() ? "" : " ") + word;
    level = &at->verbs;
  }
  return found;
}

Parsed parse_arguments(const std::vector<Verb>& verbs, const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    Parsed parsed = wrong_usage("which verb?\n\n" + overview(verbs), "");
    return parsed;
  }
  if (arguments[0] == "-h" || arguments[0] == "--help") return {nullptr, {}, 0, overview(verbs)};
  if (arguments[0] == "-V" || arguments[0] == "--version")
    return parse_arguments(verbs, {"version"});
  const std::vector<Verb>* level = &verbs;
  std::string name;
  for (std::size_t i = 0;; ++i) {
    const std::string parent = name.empty() ? "loam" : "loam " + name;
    const Found found = i < arguments.size() ? find_verb(*level, {arguments[i]}) : Found{};
    if (found.verb == nullptr) {
      const Found at = find_verb(verbs, split(name, ' '));
      if (i < arguments.size() && (arguments[i] == "-h" || arguments[i] == "--help"))
        return {nullptr, {}, 0, help_of(*at.verb, name)};
      if (i < arguments.size()) return unknown_verb(*level, arguments[i], parent);
      return wrong_usage("'" + parent + "' needs one of: " + join(names_of(*level), ", "), name);
    }
    name += (name.empty() ? "" : " ") + found.name;
    // `loam devices` lists, `loam devices drain` is a verb of it.
    const bool own = found.verb->run && (i + 1 == arguments.size() ||
                                         arguments[i + 1].starts_with('-'));
    if (found.verb->verbs.empty() || own) {
      const auto rest = arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1;
      return parse_with(*found.verb, name, {rest, arguments.end()});
    }
    level = &found.verb->verbs;
  }
}

std::string overview(const std::vector<Verb>& verbs) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Verb& verb : verbs) rows.emplace_back(verb.name, verb.summary);
  return "Loam turns a Linux machine into an AI machine: one loam.yaml trains a model and serves "
         "it.\n\n"
         "usage: loam VERB [OPTIONS]\n\n" +
         columns_of(rows) + "\nloam help VERB   options and examples of one verb\n";
}

std::string help_of(const Verb& verb, const std::string& full_name) {
  std::string usage = "usage: loam " + full_name;
  std::vector<std::pair<std::string, std::string>> rows;
  if (!verb.verbs.empty()) usage += verb.run ? " [VERB]" : " VERB";
  for (const Verb& child : verb.verbs) rows.emplace_back(child.name, child.summary);
  if (verb.run || verb.verbs.empty()) {
    usage += " [OPTIONS]";
    for (const Positional& positional : verb.positionals) {
      const std::string word = positional.name + (positional.many ? "…" : "");
      usage += positional.required ? " " + word : " [" + word + "]";
      rows.emplace_back(word, positional.help);
    }
    if (verb.takes_command)
      usage += " [--] " + (verb.command_words.empty() ? std::string("CMD…") : verb.command_words);
    for (const Option& option : verb.options) rows.emplace_back(spelled(option), option.help);
    rows.emplace_back("-h, --help", "print this help");
  }
  std::string text = verb.summary + "\n\n" + usage + "\n\n" + columns_of(rows);
  if (!verb.examples.empty()) {
    text += "\nexamples:\n";
    for (const std::string& line : split(verb.examples, '\n')) text += "  " + line + "\n";
  }
  return text;
}

}  // namespace loam::cli
