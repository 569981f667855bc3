// `loam secret`: values that jobs get by name. Only names ever come back.
#include <termios.h>
#include <unistd.h>

#include <cstdlib>

#include "base/fd.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/signals.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

constexpr std::size_t kSecretBytesMax = 64u << 10;

// The terminal without echo; as it was, when this goes. Signals wait until then.
class Silence {
 public:
  Silence() : active_(::tcgetattr(0, &before_) == 0) {
    if (!active_) return;
    termios silent = before_;
    silent.c_lflag &= static_cast<tcflag_t>(~ECHO);
    ::tcsetattr(0, TCSAFLUSH, &silent);
  }
  ~Silence() {
    if (active_) ::tcsetattr(0, TCSAFLUSH, &before_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  termios before_{};
  bool active_;
};

// A line typed without echo; cancelled by an interrupt.
Result<std::string> prompt_secret(Console& console, const std::string& name) {
  console.warn_text(name + ": ");
  Signals signals;
  const Silence silence;
  std::string line;
  const engines::Wake wake{signals.fd(), [&] {
                             const int number = signals.next();
                             return number == 0 || number == SIGWINCH;
                           }};
  for (;;) {
    LOAM_CHECK(engines::await_readable(0, &wake));
    char c = 0;
    const ssize_t count = ::read(0, &c, 1);
    if (count <= 0 || c == '\n') break;
    line += c;
    if (line.size() > kSecretBytesMax) break;
  }
  console.warn_text("\n");
  return line;
}

Result<std::string> read_secret(Console& console, const std::string& name) {
  if (console.input_terminal()) return prompt_secret(console, name);
  std::string value = LOAM_TRY(read_fd(0, kSecretBytesMax));
  if (value.ends_with('\n')) value.pop_back();
  if (value.ends_with('\r')) value.pop_back();
  return value;
}

int set_secret(Context& context) {
  const std::string name = context.arguments.value("NAME");
  const auto value = read_secret(context.console, name);
  if (!value) return report(context, value.error());
  if (value->empty())
    return report(context,
                  {ErrorCode::invalid, "the value is empty; it is read from standard input"});
  if (!is_utf8(*value))
    return report(context, {ErrorCode::invalid, "the value is no UTF-8 text; encode it (base64)"});
  return ask(context, "PUT", "/v1/secrets/" + engines::percent_encoded(name),
             Json::object({{"value", *value}}))
      .status;
}

// {"secrets": ["A"]} or {"names": …}, items as names or {"name"}.
std::vector<std::string> names_in(const Json& body) {
  std::vector<std::string> names;
  for (const char* key : {"secrets", "names"})
    for (const Json& item : body[key].as_array())
      names.push_back(item.is_string() ? item.as_string() : item["name"].as_string());
  return names;
}

int list_secrets(Context& context) {
  const Answer answer = ask(context, "GET", "/v1/secrets");
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  for (const std::string& name : names_in(answer.body)) context.console.print(printable(name));
  return kExitOk;
}

int remove_secrets(Context& context) {
  int status = kExitOk;
  for (const std::string& name : context.arguments.list("NAME")) {
    const Answer answer = ask(context, "DELETE", "/v1/secrets/" + engines::percent_encoded(name));
    if (answer.status != kExitOk) status = answer.status;
  }
  return status;
}

}  // namespace

Verb secret_verb() {
  Verb set{"set",
           "keep a value, read from standard input or typed unseen",
           "loam secret set HF_TOKEN\npass show hf | loam secret set HF_TOKEN",
           {},
           {{"NAME", "as in `secrets:` of loam.yaml"}},
           false,
           set_secret,
           {}};
  Verb list{"ls",
            "the names; never the values",
            "loam secret ls",
            {json_option()},
            {},
            false,
            list_secrets,
            {}};
  Verb remove{"rm",
              "forget values",
              "loam secret rm HF_TOKEN",
              {},
              {{"NAME", "as in `loam secret ls`", true, true}},
              false,
              remove_secrets,
              {}};
  Verb verb;
  verb.name = "secret";
  verb.summary = "values that jobs get by name: set, ls, rm";
  verb.examples = "loam secret set HF_TOKEN\nloam secret ls";
  verb.verbs = {set, list, remove};
  return verb;
}

}  // namespace loam::cli
