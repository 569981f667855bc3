#include "shim/lane.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/text.h"

namespace loam::shim {
namespace {

constexpr std::size_t kReadBytes = 32 * 1024;
constexpr std::size_t kToldBytesMax = api::kShimPacketBytesMax - 4096;
constexpr std::size_t kErrorBytesMax = 512;  // of a record: a journal's room is set aside by count

Result<Task> task_from(const Json& document) {
  Task task;
  task.attempt = LOAM_TRY(document.string_at("attempt"));
  task.work = LOAM_TRY(document.string_at("work"));
  const bool number =
      !task.attempt.empty() && task.attempt.find_first_not_of("0123456789") == std::string::npos;
  if (!number || !task.work.starts_with('/')) return fail(ErrorCode::invalid, "no task");
  for (const auto& [name, value] : document["environment"].as_object())
    task.environment.emplace_back(name, value.as_string());
  return task;
}

Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0711) != 0 && errno != EEXIST) return fail_errno("mkdir " + path);
  return {};
}

// Every name in `from` to WORK/NAME, which is made where there is one. No process of the sandbox is
// left that could change what is in it meanwhile.
Result<void> move_entries(const std::string& from, const std::string& work,
                          const std::string& name) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(from.c_str()), ::closedir);
  if (!folder) return fail_errno(from);
  Fd to;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view entry_name = entry->d_name;
    if (entry_name == "." || entry_name == "..") continue;
    if (!to) {
      LOAM_CHECK(make_folder(work));
      LOAM_CHECK(make_folder(work + "/" + name));
      to = LOAM_TRY(open_file(work + "/" + name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    }
    if (::renameat(::dirfd(folder.get()), entry->d_name, to.get(), entry->d_name) != 0)
      return fail_errno("what the task left in " + from);
  }
  return {};
}

}  // namespace

Lane::Lane(const api::AttemptPlan& plan, ExitJournal journal)
    : attempts_folder_(plan.folder.substr(0, plan.folder.rfind('/'))),
      folders_(*plan.lane),
      ids_{.uid = plan.uid, .gid = plan.gid, .groups = plan.groups},
      output_bytes_max_(plan.output_bytes_max),
      journal_(std::move(journal)) {}

Result<Lane> Lane::open(const api::AttemptPlan& plan) {
  return Lane(plan, LOAM_TRY(ExitJournal::open(plan.folder)));
}

Result<void> Lane::hand(const Json& tasks) {
  LOAM_CHECK(journal_.reserve(waiting_.size() + tasks.size() + 1));
  for (const Json& document : tasks.as_array())
    if (auto task = task_from(document)) waiting_.push_back(std::move(*task));
  return {};
}

Result<void> Lane::begin(int control) {
  LOAM_ASSERT(!current_ && !waiting_.empty());
  LOAM_CHECK(journal_.add_begun(waiting_.front().attempt));
  current_.emplace();
  current_->task = std::move(waiting_.front());
  waiting_.pop_front();
  current_->started_ms = wall_ms();
  LOAM_CRASH_POINT("shim.task_begun");
  current_->output = LOAM_TRY(sandbox::send_task(control, ids_, current_->task.environment));
  (void)::fcntl(current_->output.get(), F_SETFL, O_NONBLOCK);
  begun_.push_back(current_->task.attempt);
  return {};
}

void Lane::read_output() { (void)read_once(); }

bool Lane::read_once() {
  if (!current_ || !current_->output) return false;
  std::array<char, kReadBytes> bytes;
  const ssize_t count = ::read(current_->output.get(), bytes.data(), bytes.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return errno == EINTR;
  if (count <= 0) {
    current_->output.reset();
    return false;
  }
  keep(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
  return true;
}

// Best effort, as all output: a disk without room loses it, and not the task.
void Lane::keep(std::string_view bytes) {
  if (!current_->log) {
    auto log = OutputLog::open(attempts_folder_ + "/" + current_->task.attempt + "/output",
                               output_bytes_max_);
    if (!log) return;
    current_->log.emplace(std::move(*log));
  }
  current_->log->append(bytes);
}

Result<void> Lane::take_what_it_left() {
  LOAM_CHECK(move_entries(folders_.run_folder, current_->task.work, "run"));
  if (folders_.output_folder.empty()) return {};
  return move_entries(folders_.output_folder, current_->task.work, "output");
}

Result<void> Lane::end(const api::ExitRecord& record) {
  // Whoever else holds its pipe (handed out of the sandbox) is not waited for, nor listened to for
  // long.
  for (std::size_t read = 0; read < output_bytes_max_ && read_once(); read += kReadBytes) {
  }
  api::ExitRecord ended = record;
  ended.error = ended.error.substr(0, kErrorBytesMax);
  LOAM_CRASH_POINT("shim.task_ended");
  LOAM_CHECK(take_what_it_left());
  LOAM_CRASH_POINT("shim.task_output_moved");
  LOAM_CHECK(journal_.add(ended));
  exits_.push_back(api::to_json(ended));
  current_.reset();
  return {};
}

Result<std::vector<Json>> Lane::settle() {
  LOAM_CRASH_POINT("shim.before_exits_synced");
  if (owes_exits()) LOAM_CHECK(journal_.sync());
  LOAM_CRASH_POINT("shim.exits_synced");
  std::vector<Json> packets;
  Json begun = Json::array_of(std::exchange(begun_, {}));
  for (std::size_t i = 0; i < exits_.size() || packets.empty();) {
    Json exits = Json::array();
    for (std::size_t bytes = packets.empty() ? begun.dump().size() : 0; i < exits_.size(); ++i) {
      bytes += exits_[i].dump().size() + 1;
      if (bytes > kToldBytesMax && exits.size() > 0) break;
      exits.push(exits_[i]);
    }
    packets.push_back(Json::object({{"type", "tasks"},
                                    {"begun", packets.empty() ? begun : Json::array()},
                                    {"exits", std::move(exits)}}));
  }
  exits_.clear();
  return packets;
}

Json Lane::holds() const {
  Json attempts = Json::array();
  if (current_) attempts.push(current_->task.attempt);
  for (const Task& task : waiting_) attempts.push(task.attempt);
  return Json::object({{"type", "holds"}, {"attempts", std::move(attempts)}});
}

}  // namespace loam::shim
