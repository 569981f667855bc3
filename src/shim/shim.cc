#include "shim/shim.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "shim/exit_record.h"
#include "shim/keeper.h"

namespace loam::shim {
namespace {

constexpr const char* kUsage = "usage: loam-shim --lock=FD [--node=FD] ATTEMPT-FOLDER";

// An inherited descriptor, never passed on from here.
Result<Fd> inherited(std::string_view digits) {
  int number = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 3)
    return fail(ErrorCode::invalid, kUsage);
  if (::fcntl(number, F_SETFD, FD_CLOEXEC) != 0)
    return fail_errno("descriptor " + std::string(digits));
  return Fd(number);
}

Result<Attempt> parse(int count, char** values) {
  Attempt arguments;
  for (int i = 1; i < count; ++i) {
    const std::string_view value = values[i];
    if (value.starts_with("--lock="))
      arguments.lock = LOAM_TRY(inherited(value.substr(7)));
    else if (value.starts_with("--node="))
      arguments.node = LOAM_TRY(inherited(value.substr(7)));
    else if (arguments.folder.empty() && value.starts_with("/"))
      arguments.folder = value;
    else
      return fail(ErrorCode::invalid, kUsage);
  }
  if (arguments.folder.empty() || !arguments.lock) return fail(ErrorCode::invalid, kUsage);
  return arguments;
}

// The lock came with the descriptor; taking it again is free, and fails where another shim has it.
Result<void> hold_lock(const Attempt& arguments) {
  struct flock request {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  if (::fcntl(arguments.lock.get(), F_OFD_SETLK, &request) != 0)
    return fail_errno("the attempt's lock");
  if (has_exit_record(arguments.folder))
    return fail(ErrorCode::exists, "the attempt has ended already");
  return {};
}

// Nothing of the starter's: its folder, its file mode mask, its terminal's signals.
void detach_from_starter() {
  (void)::setsid();
  (void)!::chdir("/");
  ::umask(077);
  for (const int number : {SIGPIPE, SIGHUP, SIGINT}) ::signal(number, SIG_IGN);
}

Result<api::AttemptPlan> read_plan(const std::string& folder) {
  const std::string text = LOAM_TRY(read_file(folder + "/plan.json"));
  const Json document = LOAM_TRY(Json::parse(text));
  return api::attempt_plan_from(document);
}

// No plan, no socket or no output file: the attempt ends as one that never started.
Result<void> record_failure(const std::string& folder, const std::string& why) {
  api::ExitRecord record;
  record.attempt = folder.substr(folder.rfind('/') + 1);
  record.outcome = api::Outcome::failed_to_start;
  record.error = why;
  record.started_ms = record.ended_ms = wall_ms();
  return write_exit_record(folder, record);
}

Result<void> keep(Attempt& arguments) {
  auto plan = read_plan(arguments.folder);
  if (!plan) return record_failure(arguments.folder, plan.error().text);
  plan->folder = arguments.folder;
  auto link = NodeLink::open(arguments.folder, std::move(arguments.node));
  if (!link) return record_failure(arguments.folder, link.error().text);
  auto log = OutputLog::open(arguments.folder + "/output", plan->output_bytes_max);
  if (!log) return record_failure(arguments.folder, log.error().text);
  Keeper keeper(std::move(*plan), std::move(*link), std::move(*log), arguments.shared);
  auto kept = keeper.run();
  (void)::unlink((arguments.folder + "/shim.sock").c_str());
  return kept;
}

}  // namespace

int run_shim(int argument_count, char** arguments) {
  auto parsed = parse(argument_count, arguments);
  if (!parsed) {
    log_error(parsed.error().text);
    return 2;
  }
  return keep_attempt(std::move(*parsed));
}

int keep_attempt(Attempt attempt) {
  detach_from_starter();
  if (auto held = hold_lock(attempt); !held) {
    log_error(attempt.folder + ": " + held.error().text);
    return 3;
  }
  if (auto kept = keep(attempt); !kept) {
    log_error(attempt.folder + ": " + kept.error().text);
    return 1;
  }
  return 0;
}

}  // namespace loam::shim
