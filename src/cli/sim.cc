// `loam sim TRACE`: the scheduler of a node over a recorded workload, on a machine that is only
// said. No node is needed.
//
//   trace ─ sim::read_trace ─┐
//   options, node.yaml ──────┴─ sim::simulate ─ sim::measure ─ sim_report.h ─▶ a table, JSON, CSV
#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/sim_report.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

constexpr std::uint64_t kCpusMax = 1'000'000;
constexpr std::uint64_t kGpusMax = 20'000;
constexpr std::uint64_t kSharedGpusMax = 128;  // each is a dimension of its own to the scheduler
constexpr std::uint64_t kPartsMax = 100;
constexpr std::uint64_t kMemoryUnlimited = std::uint64_t{1} << 60;
constexpr std::int64_t kProgressNs = 200'000'000;
constexpr std::size_t kCsvJobsAtOnce = 4096;

Result<std::uint64_t> whole_number(const Arguments& arguments, const std::string& key,
                                   std::uint64_t most) {
  const std::string text = arguments.value(key);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > most)
    return fail(ErrorCode::invalid, "--" + key + " '" + printable(text) +
                                        "': expected a whole number from 0 to " +
                                        std::to_string(most));
  return number;
}

Result<std::uint32_t> cpus_of(const Arguments& arguments, const sim::Trace& trace) {
  if (arguments.has("cpus"))
    return static_cast<std::uint32_t>(LOAM_TRY(whole_number(arguments, "cpus", kCpusMax)));
  if (trace.processors) return static_cast<std::uint32_t>(std::min(*trace.processors, kCpusMax));
  if (trace.has_cpus)
    return fail(ErrorCode::invalid,
                trace.name +
                    ": its jobs ask for CPUs, and it does not say how many there were; "
                    "expected --cpus N");
  return 0;
}

Result<sched::Machine> machine_of(const Arguments& arguments, const sim::Trace& trace) {
  sched::SimpleMachine facts{.memory_bytes = kMemoryUnlimited};
  facts.cpus = LOAM_TRY(cpus_of(arguments, trace));
  if (arguments.has("gpus"))
    facts.gpus = static_cast<std::uint32_t>(LOAM_TRY(whole_number(arguments, "gpus", kGpusMax)));
  else if (trace.has_gpus)
    return fail(ErrorCode::invalid, trace.name + ": its jobs ask for GPUs; expected --gpus N");
  if (arguments.has("memory")) {
    auto size = parse_size(arguments.value("memory"));
    if (!size) return in_context("--memory", std::move(size.error()));
    facts.memory_bytes = std::min(*size, kMemoryUnlimited);
  }
  sched::Machine machine = simple_machine(facts);
  if (!arguments.has("gpu-parts")) return machine;
  const std::uint64_t parts = LOAM_TRY(whole_number(arguments, "gpu-parts", kPartsMax));
  if (parts < 2 || facts.gpus > kSharedGpusMax)
    return fail(ErrorCode::invalid, "--gpu-parts: expected 2 or more, of at most " +
                                        std::to_string(kSharedGpusMax) + " GPUs");
  for (sched::Device& device : machine.devices)
    device.sharing = {sched::SharingMode::enforced, static_cast<std::uint32_t>(parts)};
  return machine;
}

Result<spec::NodeConfig> read_policy(const std::string& path) {
  const std::string text = LOAM_TRY(read_file(path));
  spec::NodeConfigResult read = spec::read_node_config(text);
  if (read.config) return std::move(*read.config);
  return fail(ErrorCode::invalid, std::string(trim(spec::format_problems(path, read.problems))));
}

// What the node's configuration says of who is next, and what it keeps for itself.
Result<void> apply(const Context& context, const spec::NodeConfig& config, sim::Options& options) {
  options.policy = context.node.policy_for(config);
  for (const spec::User& user : config.users)
    if (!user.account.empty()) options.accounts[user.name] = user.account;
  sched::Machine& machine = options.machine;
  const std::uint64_t cpu_milli = machine.cpu_milli_total();
  if (config.reserve.cpu_milli > 0 && config.reserve.cpu_milli >= cpu_milli)
    return fail(ErrorCode::invalid,
                "reserve.cpus: found all of this machine's CPUs, expected less");
  if (config.reserve.cpu_milli > 0) machine.cpu_milli = cpu_milli - config.reserve.cpu_milli;
  if (config.reserve.memory_bytes >= machine.memory_bytes[0])
    return fail(ErrorCode::invalid,
                "reserve.memory: found all of this machine's memory, expected less");
  machine.memory_bytes[0] -= config.reserve.memory_bytes;
  return {};
}

Result<sim::Options> options_of(const Context& context, const sim::Trace& trace) {
  const Arguments& arguments = context.arguments;
  sim::Options options;
  options.machine = LOAM_TRY(machine_of(arguments, trace));
  options.memory = arguments.has("memory");
  options.preemptible = arguments.flag("preemptible");
  options.resume = arguments.flag("resume");
  if (arguments.has("grace")) {
    auto grace = parse_duration(arguments.value("grace"));
    if (!grace) return in_context("--grace", std::move(grace.error()));
    options.grace_ms = std::chrono::duration_cast<std::chrono::milliseconds>(*grace).count();
  }
  const std::string limits = arguments.value("limits", "recorded");
  if (limits == "exact")
    options.limits = sim::Limits::exact;
  else if (limits == "none")
    options.limits = sim::Limits::none;
  else if (limits != "recorded")
    return fail(ErrorCode::invalid,
                "--limits '" + printable(limits) + "': expected recorded, exact or none");
  return options;
}

class Progress {
 public:
  explicit Progress(Console& console) : console_(console) {}
  void show(const std::string& text) {
    const std::int64_t now_ns = steady_ns();
    if (now_ns - shown_ns_ < kProgressNs) return;
    shown_ns_ = now_ns;
    console_.progress(text);
  }

 private:
  Console& console_;
  std::int64_t shown_ns_ = steady_ns();
};

std::string counted(std::uint64_t count, const std::string& word) {
  return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}

// What was read, where somebody should know more of it than the numbers say.
void add_notes(sim::Trace& trace, const sim::Options& options) {
  const auto jobs_that = [&](const auto& condition) {
    return counted(
        static_cast<std::uint64_t>(std::count_if(trace.jobs.begin(), trace.jobs.end(), condition)),
        "job");
  };
  const auto part = [](const sim::Job& job) { return job.gpu_milli > 0 && job.gpu_milli < 1000; };
  if (std::any_of(trace.jobs.begin(), trace.jobs.end(), part) && !options.machine.devices.empty() &&
      options.machine.devices[0].sharing.parts == 1)
    trace.notes.push_back(jobs_that(part) +
                          " asking for a part of a GPU: a whole one for each "
                          "(--gpu-parts N cuts them into parts)");
  if (trace.has_memory && !options.memory)
    trace.notes.emplace_back("what jobs ask for of memory is left out (--memory SIZE limits it)");
  if (options.limits == sim::Limits::recorded &&
      std::all_of(trace.jobs.begin(), trace.jobs.end(),
                  [](const sim::Job& job) { return job.limit_ms == 0; }))
    trace.notes.emplace_back(
        "no job has a time limit, so nothing is known of when one ends; "
        "--limits exact gives each its own run time");
}

Result<void> write_jobs(const std::string& path, const sim::Trace& trace,
                        const sim::Outcome& outcome) {
  const Fd file = LOAM_TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0666));
  std::string text(kJobsCsvHeader);
  for (std::size_t first = 0; !text.empty(); first += kCsvJobsAtOnce) {
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t count = ::write(file.get(), text.data() + done, text.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return fail_errno("--jobs " + printable(path));
      done += static_cast<std::size_t>(count);
    }
    text = jobs_csv(trace, outcome, first, kCsvJobsAtOnce);
  }
  return {};
}

Result<sim::Trace> read(Context& context, Progress& progress) {
  sim::ReadOptions options;
  options.skip_bad = context.arguments.flag("skip-bad");
  options.progress = [&](std::size_t jobs) {
    progress.show("read " + std::to_string(jobs) + " jobs");
  };
  sim::Trace trace = LOAM_TRY(sim::read_trace(context.arguments.value("TRACE"), options));
  if (trace.jobs.empty()) {
    std::string why;
    for (const auto& [reason, jobs] : trace.left_out)
      why += "; " + std::to_string(jobs) + " left out: " + reason;
    return fail(ErrorCode::invalid, trace.name + ": no job in it that could run" + why);
  }
  return trace;
}

Result<std::vector<Simulated>> simulate_all(Context& context, sim::Trace& trace,
                                            Progress& progress) {
  std::vector<std::string> policies = context.arguments.list("policy");
  if (policies.empty()) policies.emplace_back();
  std::vector<Simulated> simulations;
  for (const std::string& path : policies) {
    Simulated one{.policy = path.empty() ? "default" : path};
    one.options = LOAM_TRY(options_of(context, trace));
    if (!path.empty()) {
      auto applied = apply(context, LOAM_TRY(read_policy(path)), one.options);
      if (!applied) return in_context(printable(path), std::move(applied.error()));
    }
    simulations.push_back(std::move(one));
  }
  add_notes(trace, simulations.front().options);
  for (Simulated& one : simulations) {
    one.options.progress = [&](std::size_t ended, std::size_t jobs) {
      progress.show(printable(one.policy) + ": " + std::to_string(ended) + " of " +
                    std::to_string(jobs) + " jobs");
    };
    one.outcome = sim::simulate(trace, one.options);
    one.measures = sim::measure(trace, one.options, one.outcome);
  }
  return simulations;
}

void print_notes(Context& context, const sim::Trace& trace) {
  for (const auto& [why, jobs] : trace.left_out)
    context.console.warn(trace.name + ": " + counted(jobs, "job") + " left out: " + why);
  if (trace.bad_lines > 0)
    context.console.warn(trace.name + ": " + counted(trace.bad_lines, "line") +
                         " left out: not as the format says (without --skip-bad: which)");
  for (const std::string& note : trace.notes) context.console.warn(trace.name + ": " + note);
}

int run_simulation(Context& context) {
  const std::string jobs_path = context.arguments.value("jobs");
  if (!jobs_path.empty() && context.arguments.list("policy").size() > 1)
    return report(context, {ErrorCode::invalid, "--jobs: expected one --policy, found several"});
  Progress progress(context.console);
  auto trace = read(context, progress);
  if (!trace) return report(context, trace.error());
  const auto simulations = simulate_all(context, *trace, progress);
  if (!simulations) return report(context, simulations.error());
  context.console.clear_progress();
  if (!jobs_path.empty())
    if (const auto written = write_jobs(jobs_path, *trace, simulations->front().outcome); !written)
      return report(context, written.error());
  if (context.json()) {
    context.console.print_text(to_json(*trace, *simulations).pretty() + "\n");
  } else {
    print_notes(context, *trace);
    context.console.print_text(simulations_text(*trace, *simulations));
  }
  return kExitOk;
}

}  // namespace

Verb sim_verb() {
  Verb verb;
  verb.name = "sim";
  verb.here_only = true;
  verb.summary = "a recorded workload through this scheduler, on a machine that is only said";
  verb.positionals = {
      {"TRACE", "Standard Workload Format or CSV, .gz too; - reads standard input"}};
  verb.options = {
      {"--cpus", "N", "CPUs of the machine (what the trace says of its own)"},
      {"--gpus", "N", "GPUs of the machine (0)"},
      {"--gpu-parts", "N", "each GPU can be shared, in this many parts"},
      {"--memory", "SIZE", "memory of the machine (not limited)"},
      {"--policy", "FILE", "a node's configuration; several are compared", true},
      {"--limits", "WHICH", "time limits: recorded, exact (the run times) or none (recorded)"},
      {"--preemptible", "", "every job may be preempted by those of a higher priority"},
      {"--grace", "DURATION", "between the word to a preempted job and its end (0s)"},
      {"--resume", "", "who was preempted goes on where it was, not from its start"},
      {"--skip-bad", "", "leave out lines that cannot be read, and count them"},
      {"--jobs", "FILE", "write what became of each job, as CSV"},
      json_option()};
  verb.examples =
      "loam sim CTC-SP2-1996-3.1-cln.swf.gz\n"
      "loam sim jobs.csv --cpus 64 --gpus 8 --memory 512GiB\n"
      "loam sim jobs.csv --gpus 8 --policy now.yaml --policy planned.yaml    side by side\n"
      "loam sim jobs.csv --gpus 8 --jobs out.csv --json";
  verb.run = run_simulation;
  return verb;
}

}  // namespace loam::cli
