// `loam run -- CMD`: one command on this machine, isolated and queued as a step would be, with its
// streams and its exit status passed through.
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>

#include "base/leading_zero.h"
#include "base/text.h"
#include "cli/box_project.h"
#include "cli/command_run.h"
#include "cli/device_request.h"
#include "cli/forward.h"
#include "cli/on.h"
#include "cli/submission.h"
#include "cli/verbs.h"
#include "spec/project.h"

namespace loam::cli {
namespace {

constexpr double kCpusMax = 100'000;

Result<std::int64_t> parse_cpus(const std::string& text) {
  if (leads_with_zero(text)) return fail(ErrorCode::invalid, "--cpus: " + leading_zero_problem(text));
  char* end = nullptr;
  const double cpus = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(cpus >= 0.001) || cpus > kCpusMax)
    return fail(ErrorCode::invalid,
                "--cpus '" + printable(text) + "': expected a number such as 0.5 or 4");
  return static_cast<std::int64_t>(cpus * 1000 + 0.5);
}

Result<int> parse_ranks(const std::string& text) {
  if (leads_with_zero(text)) return fail(ErrorCode::invalid, "--ranks: " + leading_zero_problem(text));
  int ranks = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ranks);
  if (error != std::errc() || end != text.data() + text.size() || ranks < 1 ||
      ranks > spec::kRanksMax)
    return fail(ErrorCode::invalid, "--ranks '" + printable(text) +
                                        "': expected a number from 1 to " +
                                        std::to_string(spec::kRanksMax));
  return ranks;
}

// "NAME=VALUE", or "NAME" for the caller's own value.
Result<Json> parse_environment(const std::vector<std::string>& settings) {
  Json environment = Json::object();
  for (const std::string& setting : settings) {
    const auto equals = setting.find('=');
    const std::string name = setting.substr(0, equals);
    if (name.empty() || !is_utf8(setting))
      return fail(ErrorCode::invalid, "--set '" + printable(setting) + "': expected NAME=VALUE");
    const char* own = ::getenv(name.c_str());
    if (equals != std::string::npos) {
      environment.set(name, setting.substr(equals + 1));
    } else if (own != nullptr && is_utf8(own)) {
      environment.set(name, own);
    }
  }
  return environment;
}

Result<void> add_resources(const Arguments& arguments, Json& command) {
  if (arguments.has("cpus"))
    command.set("cpu_milli", LOAM_TRY(parse_cpus(arguments.value("cpus"))));
  if (arguments.has("memory")) {
    auto size = parse_size(arguments.value("memory"));
    if (!size) return in_context("--memory", std::move(size.error()));
    command.set("memory_bytes", *size);
  }
  LOAM_CHECK(add_device_requests(arguments, command));
  if (arguments.has("time")) {
    auto time = parse_duration(arguments.value("time"));
    if (!time) return in_context("--time", std::move(time.error()));
    command.set("time_ms", std::chrono::ceil<std::chrono::milliseconds>(*time).count());
  }
  if (arguments.has("idle")) {
    if (!arguments.flag("terminal"))
      return fail(ErrorCode::invalid, "--idle: is about what is typed on a terminal; expected -it with it");
    auto idle = parse_duration(arguments.value("idle"));
    if (!idle) return in_context("--idle", std::move(idle.error()));
    command.set("idle_ms", std::chrono::ceil<std::chrono::milliseconds>(*idle).count());
  }
  const std::string network = arguments.value("network", "host");
  if (network != "host" && network != "none")
    return fail(ErrorCode::invalid,
                "--network '" + printable(network) + "': expected host or none");
  command.set("network", network);
  return {};
}

Result<Json> command_of(const Arguments& arguments) {
  for (const std::string& word : arguments.command)
    if (!is_utf8(word)) return fail(ErrorCode::invalid, "the command is no UTF-8 text");
  const bool terminal = arguments.flag("terminal");
  const bool detach = arguments.flag("detach");
  const bool gang = arguments.has("ranks");
  if (gang && (terminal || arguments.flag("input")))
    return fail(ErrorCode::invalid, "--ranks: a gang has neither a terminal nor standard input");
  Json environment = LOAM_TRY(parse_environment(arguments.list("set")));
  if (const char* type = ::getenv("TERM");
      terminal && type != nullptr && is_utf8(type) && !environment.has("TERM"))
    environment.set("TERM", type);
  const WindowSize size = window_size(0);
  Json command = Json::object({{"argv", Json::array_of(arguments.command)},
                               {"terminal", terminal},
                               // An attached shim waits for us and keeps the streams apart; where
                               // -i was not given, the end of input is the first that it hears.
                               {"standard_input", !detach && !gang},
                               {"attach", !detach},
                               {"environment", std::move(environment)},
                               {"cpu_milli", 1000},
                               {"memory_bytes", std::int64_t{1} << 30},
                               {"time_ms", 0},
                               {"columns", int{size.columns}},
                               {"rows", int{size.rows}}});
  command.set("env", arguments.has("env") ? Json(arguments.value("env")) : Json());
  if (gang) command.set("ranks", LOAM_TRY(parse_ranks(arguments.value("ranks"))));
  LOAM_CHECK(add_resources(arguments, command));
  return command;
}

// What is to be forwarded. A command with the machine's network listens on the machine's own ports: on
// those nothing may listen in front of it.
Result<std::vector<PortPair>> ports_of(Context& context) {
  const bool own_network = context.arguments.value("network", "host") == "none";
  std::vector<PortPair> forwarded;
  for (const std::string& text : context.arguments.list("port")) {
    if (context.arguments.flag("detach"))
      return fail(ErrorCode::invalid, "--port: ends with this program; later: loam forward RUN " +
                                          printable(text));
    const auto ports = parse_ports(text);
    if (!ports) return in_context("--port", ports.error());
    if (own_network || ports->local != ports->job || context.arguments.has(kOn)) {
      forwarded.push_back(*ports);
    } else {
      if (auto free = check_port_is_free(ports->job); !free)
        return in_context("--port (mend: another port, or --network none)", free.error());
      context.console.warn("with the machine's network (--network host) port " +
                           std::to_string(ports->job) + " of the command is 127.0.0.1:" +
                           std::to_string(ports->job));
    }
  }
  return forwarded;
}

int run_command(Context& context) {
  auto command = command_of(context.arguments);
  if (!command) return report(context, command.error());
  const auto ports = ports_of(context);
  if (!ports) return report(context, ports.error());
  // A loam.yaml that is there says what the command's environment is; none is needed.
  const std::string path = context.arguments.value("file", "loam.yaml");
  std::optional<ProjectFile> file;
  if (context.arguments.has("file") || ::access(path.c_str(), F_OK) == 0) {
    file = read_project_file(context.console, path);
    if (!file) return kExitUsage;
  }
  auto body = submission("run", file ? &*file : nullptr);
  if (!body) return report(context, body.error());
  body->set("command", std::move(*command));
  body->set("hold", context.arguments.flag("hold"));
  if (auto added = add_queue_options(context.arguments, *body); !added)
    return report(context, added.error());
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  auto delivery = deliver(context, *body, file ? &*file : nullptr);
  if (!delivery) return report(context, delivery.error());
  Signals signals;
  const Submitted submitted =
      submit(context.console, *node, signals, "/v1/runs", *body, file ? file->shown : path);
  delivery->reset();
  if (submitted.run == 0) return submitted.status;
  if (context.arguments.flag("detach")) {
    context.console.print(std::to_string(submitted.run));
    return kExitOk;
  }
  Child forwarding;
  if (!ports->empty()) {
    auto started = forward_beside(
        context.console, *node,
        {.target = std::to_string(submitted.run), .ports = *ports, .beside_command = true});
    if (!started) return report(context, started.error());
    forwarding = std::move(*started);
  }
  const int status = watch_command(context.console, *node, signals,
                                   {.run = submitted.run,
                                    .terminal = context.arguments.flag("terminal"),
                                    .input = context.arguments.flag("input"),
                                    .interrupted = submitted.interrupted});
  if (file) bring_lock_back(context, file->folder);
  return status;
}

}  // namespace

Verb run_verb() {
  Verb verb;
  verb.name = "run";
  verb.summary = "one command, isolated and queued; returns its exit status";
  verb.takes_command = true;
  verb.options = {
      {"-i,--input", "", "pass standard input to the command"},
      {"-t,--terminal", "", "give the command a terminal"},
      {"--cpus", "N", "CPUs, such as 0.5 (1)"},
      {"--memory", "SIZE", "memory, such as 2GiB (1GiB)"},
      {"--gpus", "N[,model=M][,memory=SIZE][,share=time-slice]", "GPUs, by number or also by what they must be"},
      {"--device", "NAME[=N][,model=M][,memory=SIZE]",
       "a device that the node's configuration declares", true},
      {"--ranks", "N", "that many processes together, each with RANK, WORLD_SIZE, MASTER_PORT"},
      {"--pin", "", "whole cores that no other job uses"},
      {"--hugepages", "SIZE", "that much in huge pages, besides memory"},
      {"--time", "DURATION", "end it after this long, such as 10m"},
      {"--idle", "DURATION", "with -it: end it when nothing is typed or said for this long"},
      {"--network", "WHICH", "host or none (host)"},
      {"--port", "[LOCAL:]PORT", "a port of the command, on this machine's loopback", true},
      {"--env", "NAME", "the env of this step or service of loam.yaml"},
      {"-e,--set", "NAME=VALUE", "a variable of its environment; NAME alone: the caller's", true},
      {"-f,--file", "FILE", "the project's file (loam.yaml where there is one)"},
      {"--hold", "", "it waits until loam release"},
      {"--detach", "", "print the run's number and return"}};
  for (Option& option : queue_options()) verb.options.push_back(std::move(option));
  verb.examples =
      "loam run -- python3 -c 'print(6 * 7)'\n"
      "loam run -it -- bash                       a terminal in the project's environment\n"
      "loam run --cpus 4 --memory 8GiB -- make -j4\n"
      "loam run --gpus 2,memory=40GiB -- python3 train.py\n"
      "loam run --ranks 2 --gpus 1 -- python3 train_ddp.py    one GPU for each rank\n"
      "loam run --device licence-x -- ./solve\n"
      "loam run --network none --time 10m -- ./untrusted\n"
      "loam run --network none --port 8888 -- jupyter lab    127.0.0.1:8888 is its port 8888\n"
      "tar c data | loam run -i -- tar t          its input from a pipe";
  verb.run = run_command;
  return verb;
}

}  // namespace loam::cli
