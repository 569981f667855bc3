#include "env/tool.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/files.h"
#include "base/text.h"

namespace loam::env {
namespace {

constexpr int kCancelPollMs = 200;
// One moment for every file that a build dates; package tools honour it (reproducible-builds.org).
constexpr const char* kSourceDateEpoch = "1577836800";
constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// Cuts a stream into lines; progress bars end theirs with \r.
class Lines {
 public:
  Lines(const OnLine& on_line, std::vector<std::string>& tail) : on_line_(on_line), tail_(tail) {}

  void add(std::string_view bytes) {
    for (const char byte : bytes) {
      if (byte == '\n' || byte == '\r') {
        flush();
      } else if (line_.size() < kLineBytesMax) {
        line_ += byte;
      }
    }
  }

  void flush() {
    if (!trim(line_).empty()) {
      const std::string text = printable(line_);
      tail_.push_back(text);
      if (tail_.size() > kTailLines) tail_.erase(tail_.begin());
      if (on_line_) on_line_(text);
    }
    line_.clear();
  }

 private:
  const OnLine& on_line_;
  std::vector<std::string>& tail_;
  std::string line_;
};

// Until the stream ends; a descendant that keeps it open beyond the process's end is not waited
// for.
Result<Ended> follow(const Context& context, Child child, Fd stream, const OnLine& on_line) {
  Ended ended;
  Lines lines(on_line, ended.tail);
  std::array<char, 1 << 14> buffer;
  for (bool open = true; open;) {
    pollfd polls[2] = {{stream.get(), POLLIN, 0}, {child.pidfd(), POLLIN, 0}};
    if (::poll(polls, 2, kCancelPollMs) < 0 && errno != EINTR) return fail_errno("poll");
    if (is_cancelled(context)) return fail(ErrorCode::cancelled, "cancelled");
    if (polls[0].revents != 0) {
      const ssize_t count = ::read(stream.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      open = count > 0;
      if (count > 0) lines.add({buffer.data(), static_cast<std::size_t>(count)});
    } else if (polls[1].revents != 0) {
      open = false;
    }
  }
  lines.flush();
  ended.status = LOAM_TRY(child.wait());
  return ended;
}

bool is_error_line(std::string_view line) {
  constexpr std::string_view kMarks[] = {
      "E: ", "ERROR", "error: ", "dpkg: error", "tar: ", "No space left"};
  return std::any_of(std::begin(kMarks), std::end(kMarks), [&](std::string_view mark) {
    return line.starts_with(mark) ||
           (mark != "E: " && mark != "tar: " && line.find(mark) != std::string_view::npos);
  });
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
}

// What a build need not see: people's folders and this node's own state.
std::vector<std::string> hidden_paths(const Context& context) {
  std::vector<std::string> hidden;
  for (const std::string& path :
       {std::string("/root"), std::string("/home"), parent_of(context.work_folder)}) {
    if (path == "/" || starts_with_path(path, "/tmp") || !path_exists(path)) continue;
    const bool covered = std::any_of(hidden.begin(), hidden.end(), [&](const std::string& other) {
      return starts_with_path(path, other);
    });
    if (!covered) hidden.push_back(path);
  }
  return hidden;
}

}  // namespace

Result<TempFolder> TempFolder::make(const std::string& parent) {
  LOAM_CHECK(make_folders(parent));
  std::string path = parent + "/env-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return fail_errno(parent);
  TempFolder folder(path);
  if (::chmod(path.c_str(), 0755) != 0) return fail_errno(path);
  return folder;
}

TempFolder::~TempFolder() {
  // What cannot be removed now goes when the node next starts.
  if (!path_.empty()) (void)remove_tree(path_);
}

bool is_cancelled(const Context& context) { return context.cancelled && context.cancelled(); }

void report(const Context& context, const Progress& progress) {
  if (context.progress) context.progress(progress);
}

Result<Ended> run_lines(const Context& context, SpawnOptions options, const OnLine& on_line) {
  Pipe pipe = LOAM_TRY(make_pipe());
  options.standard_output = pipe.write_end.get();
  options.standard_error = pipe.write_end.get();
  options.own_group = true;
  Child child = LOAM_TRY(spawn(options));
  pipe.write_end.reset();
  return follow(context, std::move(child), std::move(pipe.read_end), on_line);
}

Result<Ended> run_build(const Context& context, const BuildStep& step, const OnLine& on_line) {
  Pipe pipe = LOAM_TRY(make_pipe());
  sandbox::BuildCommand command;
  command.argv = step.argv;
  command.argv[0] = std::string(kInside) + "/scripts/" + command.argv[0];
  command.environment = {{"PATH", kPath},
                         {"LC_ALL", "C.UTF-8"},
                         {"TZ", "UTC"},
                         {"HOME", std::string(kInside) + "/io/home"},
                         {"DEBIAN_FRONTEND", "noninteractive"},
                         {"PYTHONHASHSEED", "0"},
                         {"SOURCE_DATE_EPOCH", kSourceDateEpoch}};
  command.environment.insert(command.environment.end(), step.environment.begin(),
                             step.environment.end());
  command.uids = context.build_uids;
  command.gids = context.build_gids;
  command.binds = {{step.folder, std::string(kInside), true}};
  command.network = step.network;
  command.hidden = hidden_paths(context);
  command.standard_output = pipe.write_end.get();
  command.standard_error = pipe.write_end.get();
  Child child = LOAM_TRY(sandbox::start_build(command));
  pipe.write_end.reset();
  return follow(context, std::move(child), std::move(pipe.read_end), on_line);
}

Result<void> prepare_folder(const Context& context, const std::string& folder) {
  const std::string source = context.shared_folder + "/python/build";
  const auto names = LOAM_TRY(list_folder(source));
  LOAM_CHECK(make_folders(folder + "/scripts", 0755));
  for (const std::string& name : names)
    if (name.ends_with(".sh") || name.ends_with(".py"))
      LOAM_CHECK(copy_file(source + "/" + name, folder + "/scripts/" + name, 0755));
  return sandbox::give_folder(folder + "/work", context.build_uids, context.build_gids);
}

Result<Fd> open_left(const std::string& folder, const std::string& relative) {
  const Fd base = LOAM_TRY(open_file(folder, O_PATH | O_DIRECTORY));
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  Fd fd(static_cast<int>(::syscall(SYS_openat2, base.get(), relative.c_str(), &how, sizeof how)));
  if (!fd) return fail_errno(relative);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(relative);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::corrupt, relative + ": no regular file");
  return fd;
}

std::string condensed(const std::vector<std::string>& tail) {
  std::vector<std::string> kept;
  for (const std::string& line : tail)
    if (is_error_line(line) && std::find(kept.begin(), kept.end(), line) == kept.end())
      kept.push_back(line);
  if (kept.empty()) {
    const std::size_t count = std::min<std::size_t>(tail.size(), 5);
    kept.assign(tail.end() - static_cast<std::ptrdiff_t>(count), tail.end());
  }
  if (kept.size() > 6) kept.erase(kept.begin(), kept.end() - 6);
  return join(kept, "; ");
}

Result<void> copy_file(const std::string& from, const std::string& to, mode_t mode) {
  const Fd source = LOAM_TRY(open_file(from, O_RDONLY));
  const Fd target = LOAM_TRY(open_file(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  if (::fchmod(target.get(), mode) != 0) return fail_errno(to);
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const ssize_t moved =
        ::copy_file_range(source.get(), nullptr, target.get(), nullptr, 1u << 30, 0);
    if (moved == 0) return {};
    if (moved > 0) continue;
    if (errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
      return fail_errno(to);
    const ssize_t count = ::read(source.get(), buffer.data(), buffer.size());
    if (count < 0) return fail_errno(from);
    if (count == 0) return {};
    LOAM_CHECK(
        write_full(target.get(), std::string_view(buffer.data(), static_cast<std::size_t>(count))));
  }
}

Result<void> require_program(const std::string& name, const std::string& package) {
  for (const std::string& folder : split(kPath, ':'))
    if (::access((folder + "/" + name).c_str(), X_OK) == 0) return {};
  return fail(ErrorCode::unavailable,
              name + " is not installed on this machine; install it with: apt install " + package);
}

std::string program_version(const std::string& name) {
  const auto output = run_collect(
      {.argv = {name, "--version"}, .environment = {"LC_ALL=C", std::string("PATH=") + kPath}});
  if (!output) return "";
  for (const std::string& word :
       split(output->standard_output.substr(0, output->standard_output.find('\n')), ' '))
    if (!word.empty() && word[0] >= '0' && word[0] <= '9') return word;
  return "";
}

}  // namespace loam::env
