// `loam node backup FILE`, `loam node restore FILE`: the node packs (docs/installation.md); here
// its bytes become a file that is whole or not there.
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "api/attach.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/node_verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr std::size_t kReceiveBytes = 128 * 1024;

// The archive's bytes go to `out` as they come; the manifest is the answer.
class Download {
 public:
  Download(engines::Exchange::Upgraded connection, int out)
      : connection_(std::move(connection.connection)), out_(out) {
    frames_.add(connection.early);
  }
  Result<Json> run() {
    std::array<char, kReceiveBytes> bytes;
    for (;;) {
      while (auto frame = LOAM_TRY(frames_.next())) {
        if (frame->type == api::AttachFrame::exit) return Json::parse(frame->payload);
        if (frame->type == api::AttachFrame::error) return fail(ErrorCode::io, frame->payload);
        LOAM_CHECK(write_full(out_, frame->payload));
        size_bytes_ += frame->payload.size();
      }
      const ssize_t count = ::read(connection_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail_errno("the node's connection");
      if (count == 0) return fail(ErrorCode::unavailable, "the node ended before it was done");
      frames_.add(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
    }
  }
  std::uint64_t size_bytes() const { return size_bytes_; }

 private:
  Fd connection_;
  int out_;
  api::FrameReader frames_;
  std::uint64_t size_bytes_ = 0;
};

Result<engines::Exchange::Upgraded> ask_for_backup(Context& context) {
  const auto node = LOAM_TRY(connect_node(context));
  const std::string target =
      std::string("/v1/node/backup") + (context.arguments.flag("secrets") ? "?secrets=1" : "");
  engines::Exchange exchange = LOAM_TRY(node.open_upgrade(target, "loam-backup"));
  std::string body;
  while (!exchange.has_head()) {
    LOAM_CHECK(engines::await_readable(exchange.fd(), nullptr));
    LOAM_CHECK(exchange.read(body));
  }
  if (exchange.head().status == 101) return exchange.take_upgraded();
  for (bool complete = false; !complete;) {
    LOAM_CHECK(engines::await_readable(exchange.fd(), nullptr));
    complete = LOAM_TRY(exchange.read(body));
  }
  const auto parsed = Json::parse(body);
  return tl::unexpected(engines::error_of({exchange.head().status, parsed ? *parsed : Json()}));
}

struct Written {
  Json manifest;
  std::uint64_t size_bytes = 0;
};

Result<Written> download(Context& context, int out) {
  Download download(LOAM_TRY(ask_for_backup(context)), out);
  Json manifest = LOAM_TRY(download.run());
  return Written{std::move(manifest), download.size_bytes()};
}

// FILE is the whole backup or what it was before; readable by its owner alone, for it may hold
// secrets and everybody's models.
Result<Written> write_file(Context& context, const std::string& path) {
  const std::string partial = path + ".partial";
  ::unlink(partial.c_str());
  const Fd file = LOAM_TRY(open_file(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  auto written = download(context, file.get());
  Result<void> kept = written ? Result<void>() : tl::unexpected(written.error());
  if (kept && ::fsync(file.get()) != 0) kept = fail_errno(partial);
  if (kept && ::rename(partial.c_str(), path.c_str()) != 0) kept = fail_errno(path);
  if (!kept) {
    ::unlink(partial.c_str());
    return in_context(path, kept.error());
  }
  const std::size_t slash = path.rfind('/');
  LOAM_CHECK(sync_folder(slash == std::string::npos ? "." : path.substr(0, slash + 1)));
  return written;
}

int backup(Context& context) {
  const std::string path = context.arguments.value("FILE");
  const auto written = path == "-" ? download(context, STDOUT_FILENO) : write_file(context, path);
  if (!written) return report(context, written.error());
  if (path == "-") return kExitOk;
  const Json& manifest = written->manifest;
  context.console.print("wrote " + path + ": " + format_size(written->size_bytes) + ", " +
                        plain_text(manifest["trees"]) + " trees, " +
                        plain_text(manifest["objects"]) + " objects, " +
                        plain_text(manifest["blobs"]) + " blobs" +
                        (manifest["secrets"].as_bool() ? ", secrets" : "; no secrets (--secrets)"));
  return kExitOk;
}

int restore(Context& context) {
  // The node's code works elsewhere than here.
  char path[PATH_MAX];
  const std::string file = context.arguments.value("FILE");
  if (::realpath(file.c_str(), path) == nullptr)
    return report(context, fail_errno(printable(file)).value());
  return context.node.main({"restore", path});
}

}  // namespace

Verb node_backup_verb() {
  return {"backup",
          "everything that it keeps, as one tar.zst, while it works on",
          "sudo loam node backup loam.tar.zst\nloam node backup - | ssh box 'cat >loam.tar.zst'",
          {{"--secrets", "", "also the values that loam secret keeps"}},
          {{"FILE", "where to; - is standard output"}},
          false,
          backup,
          {}};
}

Verb node_restore_verb() {
  return {"restore",
          "a backup into an empty state folder, every digest checked",
          "sudo loam node restore loam.tar.zst",
          {},
          {{"FILE", "what loam node backup wrote"}},
          false,
          restore,
          {}};
}

}  // namespace loam::cli
