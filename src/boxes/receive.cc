#include "boxes/receive.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "base/files.h"
#include "base/sha256.h"
#include "base/text.h"
#include "boxes/kept_projects.h"
#include "boxes/manifest.h"
#include "boxes/message.h"
#include "boxes/project_folder.h"

namespace loam::boxes {
namespace {

constexpr std::string_view kLockName = "loam.lock";
constexpr time_t kSilenceSecondsMax = 600;  // of the client's; it reads its files meanwhile
constexpr std::size_t kReadBytes = 256u << 10;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

class Receiver {
 public:
  explicit Receiver(int connection) : connection_(connection) {}

  // Until the client goes away, or a message that cannot be obeyed: its error is the last answer.
  Result<void> run() {
    for (;;) {
      const auto message = read_message(connection_);
      if (!message && message.error().code == ErrorCode::cancelled) return {};
      if (!message) return tl::unexpected(message.error());
      LOAM_CHECK(write_message(connection_, LOAM_TRY(obey(*message))));
    }
  }

 private:
  Result<Json> obey(const Json& message) {
    const std::string& operation = message["operation"].as_string();
    if (operation == "begin") return begin(message);
    if (!lock_) return fail(ErrorCode::invalid, "expected `begin` first");
    if (operation == "push") return push(message);
    if (operation == "remove") return remove();
    return fail(ErrorCode::invalid, "operation: '" + printable(operation) + "' is unknown");
  }

  Result<Json> begin(const Json& message) {
    const std::string top = LOAM_TRY(kept_projects_folder());
    kept_ = LOAM_TRY(kept_project(top, message["key"].as_string(), message["name"].as_string()));
    LOAM_CHECK(make_folders(kept_.push));
    lock_ = LOAM_TRY(open_file(kept_.push + "/lock", O_RDWR | O_CREAT, 0600));
    LOAM_CHECK(await_lock());
    Json answer =
        Json::object({{"folder", kept_.folder}, {"lock", nullptr}, {"pushed_lock", nullptr}});
    if (const auto lock = read_file(kept_.folder + "/" + std::string(kLockName));
        lock && is_utf8(*lock))
      answer.set("lock", *lock);
    if (const auto origin = read_file(origin_path()))
      if (const auto document = Json::parse(*origin))
        answer.set("pushed_lock", (*document)["pushed_lock"]);
    return answer;
  }

  Result<void> await_lock() {
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
    LOAM_CHECK(write_message(connection_, Json::object({{"waiting", true}})));
    while (::flock(lock_.get(), LOCK_EX) != 0)
      if (errno != EINTR) return fail_errno(kept_.push + "/lock");
    return {};
  }

  Result<Json> push(const Json& message) {
    auto manifest = read_manifest(message["entries"]);
    if (!manifest) return in_context("what is pushed", manifest.error());
    ProjectFolder folder = LOAM_TRY(ProjectFolder::open(kept_.folder));
    const auto wanted = LOAM_TRY(folder.lacking(*manifest));
    const std::string incoming = kept_.push + "/incoming";
    LOAM_CHECK(remove_tree(incoming));
    LOAM_CHECK(make_folders(incoming));
    const Fd place = LOAM_TRY(open_file(incoming, O_RDONLY | O_DIRECTORY));
    Json numbers = Json::array();
    for (const std::size_t number : wanted) numbers.push(number);
    LOAM_CHECK(write_message(connection_, Json::object({{"want", std::move(numbers)}})));
    for (const std::size_t number : wanted) {
      auto taken = take_file(place, number, (*manifest)[number]);
      if (!taken) return in_context(printable((*manifest)[number].path), taken.error());
    }
    LOAM_CHECK(folder.become(*manifest, wanted, place));
    LOAM_CHECK(write_origin(message["origin"], *manifest));
    LOAM_CHECK(remove_tree(incoming));
    return Json::object({{"done", true}});
  }

  Result<void> take_file(const Fd& place, std::size_t number, const ManifestEntry& entry) {
    const Fd file(::openat(place.get(), std::to_string(number).c_str(),
                           O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return fail_errno("a file for it");
    buffer_.resize(kReadBytes);
    Sha256 hash;
    for (std::uint64_t left = entry.size_bytes; left > 0;) {
      const auto part = std::as_writable_bytes(std::span(buffer_))
                            .first(std::min<std::uint64_t>(left, buffer_.size()));
      if (LOAM_TRY(read_full(connection_, part)) < part.size())
        return fail(ErrorCode::cancelled, "the connection is gone");
      if (!entry.digest.empty()) hash.add(part);
      LOAM_CHECK(write_full(file.get(), part));
      left -= part.size();
    }
    if (!entry.digest.empty() && hash.finish().hex() != entry.digest)
      return fail(ErrorCode::invalid, "changed while it was pushed; try again");
    const timespec changed{static_cast<time_t>(entry.mtime_ns / kNsPerSecond),
                           entry.mtime_ns % kNsPerSecond};
    const timespec times[2] = {changed, changed};
    if (::futimens(file.get(), times) != 0) return fail_errno("its time");
    // Data is known again by size and time alone: these may not outlive content that a power cut
    // took.
    if (entry.digest.empty() && ::fsync(file.get()) != 0) return fail_errno("fsync");
    return {};
  }

  // Which loam.lock the client has: one that is another later was made here, and is the client's to
  // have.
  Result<void> write_origin(const Json& origin, const Manifest& manifest) {
    Json document = Json::object({{"origin", origin}, {"pushed_lock", nullptr}});
    for (const ManifestEntry& entry : manifest)
      if (entry.path == kLockName && !entry.digest.empty())
        document.set("pushed_lock", entry.digest);
    return write_file_atomic(origin_path(), document.pretty() + "\n", {.durable = false});
  }

  Result<Json> remove() {
    LOAM_CHECK(remove_tree(kept_.folder));
    return Json::object();
  }

  std::string origin_path() const { return kept_.push + "/origin.json"; }

  int connection_;
  KeptProject kept_;
  Fd lock_;
  std::string buffer_;
};

}  // namespace

int receive_main() {
  ::signal(SIGPIPE, SIG_IGN);
  // A client whose machine has lost the network says neither a word nor that it is gone: it may not
  // hold the project's lock for ever.
  const timeval limit{.tv_sec = kSilenceSecondsMax, .tv_usec = 0};
  (void)::setsockopt(STDIN_FILENO, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const auto done = Receiver(STDIN_FILENO).run();
  if (done) return 0;
  (void)write_message(STDIN_FILENO, error_message(done.error()));
  return 1;
}

}  // namespace loam::boxes
