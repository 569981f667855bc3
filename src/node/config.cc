#include "node/config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

// A root node hands out the machine's devices as the file says: nobody else may say it.
Result<void> check_owner(int file, const std::string& path) {
  struct stat status {};
  if (::fstat(file, &status) != 0) return fail_errno(path);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::invalid, path + ": expected a file");
  if (status.st_uid == 0 && (status.st_mode & kWritableByOthers) == 0) return {};
  return fail(ErrorCode::denied, path + ": others than root can write it; mend: chown root " +
                                     path + " && chmod 644 " + path);
}

}  // namespace

Result<LoadedConfig> load_config(const Paths& paths, const Identity& identity) {
  LoadedConfig loaded;
  loaded.path = paths.config;
  loaded.read_ms = wall_ms();
  const auto file = open_file(paths.config, O_RDONLY | O_NONBLOCK);
  if (!file && file.error().code == ErrorCode::not_found && !paths.config_named) return loaded;
  if (!file && paths.config_named) return in_context("LOAM_NODE_CONFIG", file.error());
  if (!file) return tl::unexpected(file.error());
  if (!identity.rootless) LOAM_CHECK(check_owner(file->get(), paths.config));
  const auto text = read_fd(file->get(), spec::kFileBytesMax + 1);
  if (!text) return in_context(paths.config, text.error());
  auto read = spec::read_node_config(*text);
  if (!read.config)
    return fail(ErrorCode::invalid,
                std::string(trim(spec::format_problems(paths.config, read.problems))));
  loaded.config = std::move(*read.config);
  auto admins = admin_ids(loaded.config.admins, identity);
  if (!admins)
    return fail(ErrorCode::invalid,
                std::string(trim(spec::format_problems(
                    paths.config, {{loaded.config.admins.place, "admins", admins.error().text}}))));
  loaded.admins = std::move(*admins);
  loaded.present = true;
  return loaded;
}

Json to_json(const LoadedConfig& loaded) {
  return Json::object({{"file", loaded.path},
                       {"present", loaded.present},
                       {"read_ms", loaded.read_ms},
                       {"in_force", spec::to_json(loaded.config)}});
}

}  // namespace loam::node
