// `loam completion bash|zsh|fish`: scripts made from the same table that parsing reads.
#include "cli/completion.h"

#include "base/text.h"
#include "cli/parse.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

std::vector<std::string> words_of(const Verb& verb) {
  std::vector<std::string> words;
  for (const Verb& child : verb.verbs) words.push_back(child.name);
  for (const Option& option : verb.options)
    for (const std::string& name : split(option.names, ',')) words.push_back(name);
  return words;
}

// A case branch per verb and per verb below it: "store" and "store gc".
std::string bash_cases(const std::vector<Verb>& verbs, const std::string& parent) {
  std::string text;
  for (const Verb& verb : verbs) {
    const std::string name = parent.empty() ? verb.name : parent + " " + verb.name;
    text += "    '" + name + "') words='" + join(words_of(verb), " ") + "' ;;\n";
    text += bash_cases(verb.verbs, name);
  }
  return text;
}

std::string names_of(const std::vector<Verb>& verbs) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs) names.push_back(verb.name);
  return join(names, " ");
}

std::string with_children(const std::vector<Verb>& verbs) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs)
    if (!verb.verbs.empty()) names.push_back(verb.name);
  return join(names, "|");
}

// For single quotes of sh and fish.
std::string quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string fish_options(const Verb& verb, const std::string& condition) {
  std::string text;
  for (const Option& option : verb.options) {
    text += "complete -c loam -n " + quoted(condition);
    for (const std::string& name : split(option.names, ','))
      text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    text += std::string(option.value.empty() ? "" : " -r") + " -d " + quoted(option.help) + "\n";
  }
  return text;
}

std::string zsh_cases(const std::vector<Verb>& verbs, const std::string& parent) {
  std::string text;
  for (const Verb& verb : verbs) {
    const std::string name = parent.empty() ? verb.name : parent + " " + verb.name;
    text += "    " + quoted(name) + ") words_here=(" + join(words_of(verb), " ") + ") ;;\n";
    text += zsh_cases(verb.verbs, name);
  }
  return text;
}

}  // namespace

std::string bash_completion(const std::vector<Verb>& verbs) {
  return "# bash completion for loam: eval \"$(loam completion bash)\"\n"
         "_loam() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} path=${COMP_WORDS[1]} words=\n"
         "  if [ \"$COMP_CWORD\" -le 1 ]; then\n"
         "    COMPREPLY=($(compgen -W '" +
         names_of(verbs) +
         "' -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case $path in\n"
         "    " +
         with_children(verbs) +
         ") [ \"$COMP_CWORD\" -gt 2 ] && path=\"$path ${COMP_WORDS[2]}\" ;;\n"
         "    help) words='" +
         names_of(verbs) +
         "' ;;\n"
         "  esac\n"
         "  case $path in\n" +
         bash_cases(verbs, "") +
         "  esac\n"
         "  [ \"$path\" = help ] && words='" +
         names_of(verbs) +
         "'\n"
         "  [ \"$path\" = completion ] && words='bash zsh fish'\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -o default -F _loam loam\n";
}

std::string zsh_completion(const std::vector<Verb>& verbs) {
  std::string descriptions;
  for (const Verb& verb : verbs) {
    std::string text = verb.name + ":" + verb.summary;
    descriptions += "    " + quoted(text) + "\n";
  }
  return "#compdef loam\n"
         "# zsh completion for loam: loam completion zsh > \"${fpath[1]}/_loam\"\n"
         "_loam() {\n"
         "  local -a verbs words_here\n"
         "  verbs=(\n" +
         descriptions +
         "  )\n"
         "  if (( CURRENT == 2 )); then _describe verb verbs; return; fi\n"
         "  local path_here=${words[2]}\n"
         "  case $path_here in\n"
         "    " +
         with_children(verbs) +
         ") (( CURRENT > 3 )) && path_here=\"$path_here ${words[3]}\" ;;\n"
         "  esac\n"
         "  case $path_here in\n" +
         zsh_cases(verbs, "") +
         "  esac\n"
         "  compadd -a words_here\n"
         "  _files\n"
         "}\n"
         // Autoloaded from a folder of $fpath, the first completion's call is this file; else it is
         // sourced.
         "if [ \"$funcstack[1]\" = _loam ]; then _loam \"$@\"\n"
         "elif (( $+functions[compdef] )); then compdef _loam loam; fi\n";
}

std::string fish_completion(const std::vector<Verb>& verbs) {
  std::string text = "# fish completion for loam: loam completion fish | source\n";
  for (const Verb& verb : verbs) {
    text += "complete -c loam -f -n __fish_use_subcommand -a " + verb.name + " -d " +
            quoted(verb.summary) + "\n";
    const std::string condition = "__fish_seen_subcommand_from " + verb.name;
    text += fish_options(verb, condition);
    for (const Verb& child : verb.verbs) {
      text += "complete -c loam -f -n " + quoted(condition) + " -a " + child.name + " -d " +
              quoted(child.summary) + "\n";
      text += fish_options(child, condition + "; and __fish_seen_subcommand_from " + child.name);
    }
  }
  return text;
}

static int print_completion(Context& context) {
  const std::string shell = context.arguments.value("SHELL");
  if (shell == "bash")
    context.console.print_text(bash_completion(all_verbs()));
  else if (shell == "zsh")
    context.console.print_text(zsh_completion(all_verbs()));
  else if (shell == "fish")
    context.console.print_text(fish_completion(all_verbs()));
  else
    return report(context,
                  {ErrorCode::invalid, "'" + printable(shell) + "': expected bash, zsh or fish"});
  return kExitOk;
}

Verb completion_verb() {
  Verb verb;
  verb.name = "completion";
  verb.here_only = true;
  verb.summary = "a script that completes loam's words: bash, zsh, fish";
  verb.positionals = {{"SHELL", "bash, zsh or fish"}};
  verb.examples =
      "eval \"$(loam completion bash)\"\n"
      "loam completion zsh > \"${fpath[1]}/_loam\"\n"
      "loam completion fish | source";
  verb.run = print_completion;
  return verb;
}

}  // namespace loam::cli
