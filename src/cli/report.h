// A run's events as lines for a person (docs/node-api.md, "Events of a run"). Keeps what has been
// told, so that a step's reason is told once and a phase of an environment's build is one line.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/json.h"
#include "cli/console.h"
#include "engines/sse.h"

namespace loam::cli {

class Report {
 public:
  // `on_error`: lines go to standard error (loam run, whose standard output is the command's).
  // `on`: " --on BOX", behind the verbs that lines offer.
  Report(Console& console, std::int64_t run, bool quiet, bool on_error = false, std::string on = "")
      : console_(console), run_(run), quiet_(quiet), on_error_(on_error), on_(std::move(on)) {}
  void tell(const engines::Event& event);

 private:
  void tell_run(const Json& event);
  void tell_env(const Json& event);
  void tell_env_progress(const std::string& name, const Json& event);
  void tell_step(const Json& event);
  void tell_step_end(const std::string& step, const std::string& state, const Json& event);
  void tell_service(const Json& event);
  void tell_endpoint(const Json& event);
  void tell_hints();
  void line(const std::string& text);
  void line_once(const std::string& key, const std::string& text);

  Console& console_;
  std::int64_t run_;
  bool quiet_;
  bool on_error_;
  std::string on_;
  std::set<std::string> announced_;          // steps whose reason has been told
  std::map<std::string, std::string> last_;  // the last line of an env, a step's wait, a service
};

}  // namespace loam::cli
