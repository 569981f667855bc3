#include "node/findings.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>

#include "base/files.h"
#include "base/text.h"

namespace loam::node {
namespace {

bool names_an_error(std::string_view line) {
  for (const std::string_view word :
       {"Error", "Exception", "error:", "ERROR", "fatal:", "panic:", "Killed"})
    if (line.find(word) != std::string_view::npos) return true;
  return false;
}

std::uint64_t count_bytes(int folder_fd, std::uint64_t limit_bytes, std::int64_t since_ms,
                          int depth) {
  constexpr int kDepthMax = 256;
  std::uint64_t sum = 0;
  DIR* folder = ::fdopendir(folder_fd);
  if (folder == nullptr) {
    ::close(folder_fd);
    return 0;
  }
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    if (::fstatat(::dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (status.st_ctim.tv_sec * 1000 + status.st_ctim.tv_nsec / 1'000'000 >= since_ms)
      sum += static_cast<std::uint64_t>(status.st_blocks) * 512;
    if (S_ISDIR(status.st_mode) && depth < kDepthMax && sum <= limit_bytes) {
      const int child =
          ::openat(::dirfd(folder), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (child >= 0) sum += count_bytes(child, limit_bytes - sum, since_ms, depth + 1);
    }
    if (sum > limit_bytes) break;
  }
  ::closedir(folder);
  return sum;
}

struct Metric {
  std::int64_t count = 0;
  Json last;
};

void add_numbers(std::map<std::string, Metric>& metrics, const Json& object) {
  for (const auto& [name, value] : object.as_object()) {
    if (!value.is_number() || (!metrics.contains(name) && metrics.size() >= kMetricNamesMax))
      continue;
    ++metrics[name].count;
    metrics[name].last = value;
  }
}

}  // namespace

std::string lines_of_rank(std::string_view output, int rank) {
  const std::string label = "[" + std::to_string(rank) + "] ";
  std::string lines;
  for (std::size_t begin = 0; begin < output.size();) {
    std::size_t end = output.find_first_of("\n\r", begin);
    if (end == std::string_view::npos) end = output.size();
    const std::string_view line = output.substr(begin, end - begin);
    if (line.starts_with(label)) lines += std::string(line.substr(label.size())) + "\n";
    begin = end + 1;
  }
  return lines;
}

std::string error_line(std::string_view output) {
  std::string_view last, mattered;
  for (std::size_t begin = 0; begin < output.size();) {
    std::size_t end = output.find_first_of("\n\r", begin);
    if (end == std::string_view::npos) end = output.size();
    const std::string_view line = trim(output.substr(begin, end - begin));
    if (!line.empty()) last = line;
    if (!line.empty() && names_an_error(line)) mattered = line;
    begin = end + 1;
  }
  std::string_view line = mattered.empty() ? last : mattered;
  return printable(line.substr(0, kErrorLineBytesMax));
}

Json summarize_metrics(std::string_view lines) {
  std::map<std::string, Metric> metrics;
  for (std::size_t begin = 0; begin < lines.size();) {
    std::size_t end = lines.find('\n', begin);
    if (end == std::string_view::npos) end = lines.size();
    const auto document = Json::parse(lines.substr(begin, end - begin));
    begin = end + 1;
    if (!document || !document->is_object()) continue;
    // One form of line carries the time beside the metrics, the other is the metrics.
    add_numbers(metrics, (*document)["metrics"].is_object() ? (*document)["metrics"] : *document);
  }
  Json summary = Json::object();
  for (auto& [name, metric] : metrics)
    summary.set(printable(name),
                Json::object({{"count", metric.count}, {"last", std::move(metric.last)}}));
  return summary;
}

Result<Fd> open_foreign(const std::string& folder, const std::string& relative) {
  const Fd top = LOAM_TRY(open_file(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  Fd file(static_cast<int>(::syscall(SYS_openat2, top.get(), relative.c_str(), &how, sizeof how)));
  if (!file) return fail_errno(printable(relative));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(printable(relative));
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::invalid, printable(relative) + ": not a regular file");
  return file;
}

Result<std::string> read_foreign(const std::string& folder, const std::string& relative,
                                 std::size_t size_bytes_max) {
  const Fd file = LOAM_TRY(open_foreign(folder, relative));
  return read_fd(file.get(), size_bytes_max);
}

std::uint64_t folder_bytes(const std::string& folder, std::uint64_t limit_bytes,
                           std::int64_t since_ms) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? 0 : count_bytes(fd, limit_bytes, since_ms, 0);
}

bool folder_empty(const std::string& folder) {
  const auto names = list_folder(folder);
  return !names || names->empty();
}

std::uint64_t disk_free_bytes(const std::string& folder) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) return 0;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

}  // namespace loam::node
