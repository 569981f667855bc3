#include "cli/box_project.h"

#include "base/files.h"
#include "base/text.h"
#include "boxes/kept_projects.h"
#include "cli/on.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr int kBarWidth = 24;

bool is_on_box(const Context& context) { return context.arguments.has(kOn); }

boxes::ProjectFiles files_of(const ProjectFile* file) {
  boxes::ProjectFiles files;
  if (file == nullptr) return files;
  for (const spec::DataSource& source : file->project.data) files.data.push_back(source.files);
  for (const spec::Step& step : file->project.steps)
    if (step.checkpoint) files.skip.push_back(step.checkpoint->path);
  return files;
}

void take_lock(Context& context, const boxes::Push& push, const std::string& folder) {
  const auto lock = push.newer_lock();
  if (!lock || !*lock) return;
  const auto written = write_file_atomic(folder + "/loam.lock", **lock, {.mode = 0644});
  const std::string& box = context.box->address().name;
  context.console.warn(written ? "loam.lock is what " + box + " has made of it"
                               : "loam.lock of " + box +
                                     " could not be written here: " + written.error().text);
}

Result<boxes::Push> begin_push(Context& context, Fd connection, const std::string& folder) {
  return boxes::Push::begin(std::move(connection), folder, [&] {
    context.console.warn("another push of " + printable(folder) + " to " +
                         context.box->address().name + " is under way; waiting for its submission");
  });
}

Result<Delivery> push_folder(Context& context, Json& body, const char* key,
                             const boxes::ProjectFiles& files) {
  boxes::Box* box = LOAM_TRY(box_of(context));
  const std::string folder = body[key].as_string();
  const std::string& name = box->address().name;
  Fd connection = LOAM_TRY(box->open_files());
  boxes::Push push = LOAM_TRY(begin_push(context, std::move(connection), folder));
  if (!files.model) take_lock(context, push, folder);
  const auto sent = push.send(files, [&](const boxes::Push::Sent& done, std::uint64_t total) {
    context.console.progress("pushing " +
                             progress_bar(static_cast<std::int64_t>(done.bytes_sent),
                                          static_cast<std::int64_t>(total), kBarWidth) +
                             " " + format_size(done.bytes_sent) + " of " + format_size(total));
  });
  context.console.clear_progress();
  if (!sent) return in_context("pushing " + printable(folder) + " to " + name, sent.error());
  if (sent->files_sent > 0)
    context.console.warn("pushed " + std::to_string(sent->files_sent) + " of " +
                         std::to_string(sent->files) + " files to " + name + ", " +
                         format_size(sent->bytes_sent));
  body.set(key, push.folder());
  return Delivery(std::move(push));
}

}  // namespace

Result<Delivery> deliver(Context& context, Json& body, const ProjectFile* file) {
  if (!is_on_box(context)) return Delivery();
  boxes::Box* box = LOAM_TRY(box_of(context));
  // How the box reaches package registries, its own environment says.
  body.set("proxy_environment", box->way_to_registries());
  const std::string& folder = body["project"].as_string();
  if (file == nullptr && (folder == "/" || folder == boxes::home_folder())) {
    body.set("project", box->home());  // a home is nobody's project, there as here
    return Delivery();
  }
  return push_folder(context, body, "project", files_of(file));
}

Result<Delivery> deliver_model(Context& context, Json& body) {
  if (!is_on_box(context)) return Delivery();
  return push_folder(context, body, "path", {.data = {}, .skip = {}, .model = true});
}

void bring_lock_back(Context& context, const std::string& folder) {
  if (!context.box) return;
  auto connection = context.box->open_files();
  if (!connection)
    return context.console.warn("loam.lock of the box is not fetched: " + connection.error().text);
  const auto push = begin_push(context, std::move(*connection), folder);
  if (!push)
    return context.console.warn("loam.lock of the box is not fetched: " + push.error().text);
  take_lock(context, *push, folder);
}

Result<std::string> folder_on_box(Context& context, const std::string& folder) {
  boxes::Box* box = LOAM_TRY(box_of(context));
  const auto kept =
      boxes::kept_project(box->projects(), boxes::project_key(folder), boxes::project_name(folder));
  if (!kept) return tl::unexpected(kept.error());
  return kept->folder;
}

}  // namespace loam::cli
