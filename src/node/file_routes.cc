// The files that an attempt changed (the upper layer of its overlay), its output for people, and
// secrets.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/files.h"
#include "base/text.h"
#include "node/findings.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::size_t kFilesListedMax = 100'000;
constexpr std::size_t kChunkBytes = 256 << 10;

struct Walk {
  const std::set<std::string>* snapshot;
  Json files{Json::Array{}};
};

// The job's checkpoints, below the path at which it sees them: `loam files` finds them there too.
struct CheckpointFiles {
  std::string path;                // "checkpoints"
  std::vector<std::string> folders;  // what lies there; what was set aside as torn
};

// An upper layer: what is there was created or changed; a character device 0:0 says that a name was
// deleted. `change` says it for all instead.
void walk_upper(int folder_fd, const std::string& prefix, Walk& walk, int depth,
                const char* change_of_all = nullptr) {
  constexpr int kDepthMax = 128;
  DIR* folder = ::fdopendir(folder_fd);
  if (folder == nullptr) {
    ::close(folder_fd);
    return;
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(folder)) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    struct stat status {};
    if (name == "." || name == ".." || walk.files.size() >= kFilesListedMax) continue;
    if (::fstatat(::dirfd(folder), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    const std::string path = prefix + name;
    if (S_ISDIR(status.st_mode)) {
      const int child =
          ::openat(::dirfd(folder), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (child >= 0 && depth < kDepthMax)
        walk_upper(child, path + "/", walk, depth + 1, change_of_all);
      else if (child >= 0)
        ::close(child);
      continue;
    }
    const bool deleted = S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
    const char* change = change_of_all != nullptr        ? change_of_all
                         : deleted                       ? "deleted"
                         : walk.snapshot->contains(path) ? "changed"
                                                         : "created";
    walk.files.push(
        Json::object({{"path", printable(path)},
                      {"size_bytes", deleted ? 0 : static_cast<std::int64_t>(status.st_size)},
                      {"mode", status.st_mode & 07777},
                      {"change", change}}));
  }
  ::closedir(folder);
}

void walk_folder(const std::string& path, const std::string& prefix, Walk& walk,
                 const char* change_of_all = nullptr) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0) walk_upper(fd, prefix, walk, 0, change_of_all);
}

Result<Fd> open_kept(const std::string& upper, const CheckpointFiles& checkpoints,
                     const std::string& path) {
  if (!checkpoints.path.empty() && path.starts_with(checkpoints.path + "/")) {
    const std::string below = path.substr(checkpoints.path.size() + 1);
    for (const std::string& folder : checkpoints.folders)
      if (auto file = open_foreign(folder, below)) return file;
  }
  return open_foreign(upper, path);
}

// Sends a file in pieces, no faster than the client takes them.
class FileStream : public std::enable_shared_from_this<FileStream> {
 public:
  FileStream(Fd file, ResponderPtr responder)
      : file_(std::move(file)), responder_(std::move(responder)) {}

  void start() {
    responder_->start_stream("application/octet-stream");
    responder_->on_closed([self = weak_from_this()] {
      if (const auto alive = self.lock()) alive->gone_ = true;
    });
    pump();
  }

 private:
  void pump() {
    std::vector<char> buffer(kChunkBytes);
    while (!gone_) {
      const ssize_t count = ::read(file_.get(), buffer.data(), buffer.size());
      if (count <= 0) return responder_->end_stream();
      responder_->write({buffer.data(), static_cast<std::size_t>(count)});
      if (responder_->pending_bytes() > kChunkBytes)
        return responder_->on_drained([self = shared_from_this()] { self->pump(); });
    }
  }

  Fd file_;
  ResponderPtr responder_;
  bool gone_ = false;
};

}  // namespace

// The shim keeps the output in two rotated files; times order them.
std::string output_tail(const std::string& attempt_folder, std::size_t bytes_max) {
  const std::string folder = attempt_folder + "/output";
  const auto names = list_folder(folder);
  if (!names) return {};
  std::map<std::pair<std::int64_t, std::string>, std::string> by_age;
  for (const std::string& name : *names) {
    struct stat status {};
    if (name.ends_with(".log") && ::stat((folder + "/" + name).c_str(), &status) == 0 && S_ISREG(status.st_mode))
      by_age[{status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec, name}] =
          folder + "/" + name;
  }
  std::string text;
  for (const auto& [age, path] : by_age) {
    const auto file = open_file(path, O_RDONLY);
    if (!file) continue;
    const off_t size = ::lseek(file->get(), 0, SEEK_END);
    ::lseek(file->get(), std::max<off_t>(0, size - static_cast<off_t>(bytes_max)), SEEK_SET);
    if (const auto content = read_fd(file->get(), bytes_max + (64u << 10))) text += *content;
  }
  return text.size() > bytes_max ? text.substr(text.size() - bytes_max) : text;
}

void Runs::Impl::file_routes(Routes& routes) {
  routes.add(
      "GET", "/v1/files/*target",
      [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
        Target target;
        const auto attempt = find_attempt(request.caller, params.at("target"), &target);
        if (!attempt) return responder->reply_error(attempt.error());
        // An unchanged step's files are those of the run whose result counts.
        const auto job = tables.job(attempt->job);
        const auto run = job ? tables.run(job->run) : std::nullopt;
        if (!run)
          return responder->reply_error({ErrorCode::not_found, "its files are no longer kept"});
        const std::string work = work_of(*job, attempt->number);
        const std::string upper = work + "/project/upper";
        CheckpointFiles checkpoints;
        if (const auto place = checkpoint_of(*run, *job)) {
          checkpoints.path = step_of(*run, *job)->checkpoint->path;
          checkpoints.folders = {place->folder + "/files", place->folder + "/torn"};
        }
        if (const auto path = request.query.find("path"); path != request.query.end()) {
          auto file = open_kept(upper, checkpoints, path->second);
          if (!file) return responder->reply_error(file.error());
          return std::make_shared<FileStream>(std::move(*file), responder)->start();
        }
        auto walk = std::make_shared<Walk>();
        auto snapshot = std::make_shared<std::set<std::string>>();
        walk->snapshot = snapshot.get();
        if (!path_exists(work))
          return responder->reply_error({ErrorCode::not_found, "its files are no longer kept"});
        node.loop.offload(
            [this, walk, snapshot, upper, checkpoints, digest_hex = run->snapshot] {
              if (const auto digest = Digest::parse(digest_hex))
                if (const auto listing = node.store.listing(*digest))
                  for (const store::ListingEntry& entry : *listing) snapshot->insert(entry.path);
              walk_folder(upper, "", *walk);
              if (checkpoints.path.empty()) return;
              walk_folder(checkpoints.folders[0], checkpoints.path + "/", *walk, "checkpoint");
              walk_folder(checkpoints.folders[1], checkpoints.path + "/", *walk, "torn");
            },
            [walk, snapshot, responder] {
              responder->reply(200, Json::object({{"files", std::move(walk->files)}}));
            });
      });
  routes.add("GET", "/v1/secrets",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               responder->reply(
                   200,
                   Json::object({{"secrets", Json::array_of(secrets.names(request.caller.uid))}}));
             });
  routes.add("PUT", "/v1/secrets/:name",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               auto value = request.body.string_at("value");
               if (!value) return responder->reply_error(value.error());
               auto put = secrets.put(request.caller.uid, params.at("name"), *value);
               if (!put) return responder->reply_error(put.error());
               responder->reply(200, Json::object());
             });
  routes.add("DELETE", "/v1/secrets/:name",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               auto removed = secrets.remove(request.caller.uid, params.at("name"));
               if (!removed) return responder->reply_error(removed.error());
               responder->reply(200, Json::object());
             });
}

}  // namespace loam::node
