#include "boxes/push.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/files.h"
#include "base/open_beneath.h"
#include "base/sha256.h"
#include "base/text.h"
#include "boxes/kept_projects.h"
#include "boxes/message.h"
#include "engines/local_node.h"

namespace loam::boxes {
namespace {

constexpr std::size_t kReadBytes = 256u << 10;

// What a person on the box reads in origin.json.
Json origin_of(const std::string& folder) {
  char host[256] = "";
  (void)::gethostname(host, sizeof host - 1);
  return Json::object({{"host", printable(host)}, {"folder", printable(folder)}});
}

std::string digest_of_lock(const std::string& folder) {
  const auto lock = read_file(folder + "/loam.lock");
  return lock ? sha256_of(*lock).hex() : "";
}

}  // namespace

Result<Push> Push::begin(Fd connection, std::string folder,
                         const std::function<void()>& on_wait) {
  Push push(std::move(connection), std::move(folder));
  Json answer = LOAM_TRY(push.ask(Json::object({{"operation", "begin"},
                                                      {"key", project_key(push.folder_)},
                                                      {"name", project_name(push.folder_)}})));
  if (answer["waiting"].as_bool()) {
    on_wait();
    answer = LOAM_TRY(push.read_answer());
  }
  push.remote_ = LOAM_TRY(answer.string_at("folder"));
  if (answer["lock"].is_string()) push.box_lock_ = answer["lock"].as_string();
  push.pushed_lock_ = answer["pushed_lock"].as_string();
  return push;
}

Result<std::optional<std::string>> Push::newer_lock() const {
  if (!box_lock_) return std::optional<std::string>();
  const std::string on_box = sha256_of(*box_lock_).hex();
  const std::string here = digest_of_lock(folder_);
  if (on_box == pushed_lock_ || on_box == here || here != pushed_lock_)
    return std::optional<std::string>();
  return box_lock_;
}

Result<Push::Sent> Push::send(const ProjectFiles& files, const Progress& progress) {
  const Manifest manifest = LOAM_TRY(manifest_of(folder_, files));
  const Json answer = LOAM_TRY(ask(Json::object(
      {{"operation", "push"}, {"origin", origin_of(folder_)}, {"entries", to_json(manifest)}})));
  Sent sent;
  std::uint64_t to_send = 0;
  std::vector<const ManifestEntry*> wanted;
  for (const Json& number : answer["want"].as_array()) {
    const auto index = static_cast<std::size_t>(number.as_int(-1));
    if (index >= manifest.size() || manifest[index].type != ManifestEntry::Type::file)
      return fail(ErrorCode::corrupt, "the box asks for a file that there is not");
    wanted.push_back(&manifest[index]);
    to_send += manifest[index].size_bytes;
  }
  for (const ManifestEntry& entry : manifest)
    if (entry.type == ManifestEntry::Type::file) ++sent.files;
  const Fd top = LOAM_TRY(open_file(folder_, O_RDONLY | O_DIRECTORY));
  for (const ManifestEntry* entry : wanted) {
    auto done = send_file(top, *entry, [&](std::size_t bytes) {
      sent.bytes_sent += bytes;
      progress(sent, to_send);
    });
    if (!done) return in_context(printable(entry->path), done.error());
    ++sent.files_sent;
  }
  LOAM_CHECK(read_answer());
  return sent;
}

// As many bytes as were announced: what was appended meanwhile waits for the next push.
Result<void> Push::send_file(const Fd& top, const ManifestEntry& entry,
                             const std::function<void(std::size_t)>& sent) {
  const Fd file = LOAM_TRY(open_beneath(top.get(), entry.path, O_RDONLY, Links::follow_beneath));
  buffer_.resize(kReadBytes);
  for (std::uint64_t left = entry.size_bytes; left > 0;) {
    const auto part = std::as_writable_bytes(std::span(buffer_))
                          .first(std::min<std::uint64_t>(left, buffer_.size()));
    if (LOAM_TRY(read_full(file.get(), part)) < part.size())
      return fail(ErrorCode::invalid, "became shorter while it was pushed; try again");
    // A box that can take no more (a full disk) says so and goes.
    if (auto written = write_full(connection_.get(), part); !written) {
      auto why = read_answer();
      return why ? written : tl::unexpected(why.error());
    }
    left -= part.size();
    sent(part.size());
  }
  return {};
}

Result<void> Push::remove() {
  LOAM_CHECK(ask(Json::object({{"operation", "remove"}})));
  return {};
}

Result<Json> Push::ask(const Json& message) {
  LOAM_CHECK(write_message(connection_.get(), message));
  return read_answer();
}

Result<Json> Push::read_answer() {
  auto answer = read_message(connection_.get());
  if (!answer && answer.error().code == ErrorCode::cancelled)
    return fail(ErrorCode::unavailable, "the connection to the box is gone; nothing was submitted");
  if (answer && answer->has("error")) return tl::unexpected(engines::error_of({0, *answer}));
  return answer;
}

}  // namespace loam::boxes
