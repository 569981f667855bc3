#include "env/wheels.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "env/pip_settings.h"
#include "env/section.h"
#include "env/tool.h"

namespace loam::env {
namespace {

constexpr std::size_t kAnswerBytesMax = 8u << 20;
constexpr const char* kHostWheels = "/usr/share/python-wheels";

// pip itself: the suite's own where it has python3-pip-whl (a pip older than a Python may not run
// on it), else this machine's.
Result<void> provide_pip(const Context& context, const WheelPlace& place) {
  LOAM_CHECK(make_folders(place.folder + "/tools", 0755));
  if (!place.suite.empty()) {
    const TempFolder temp = LOAM_TRY(TempFolder::make(context.work_folder));
    Apt apt = LOAM_TRY(Apt::open(context, temp.path(), place.suite));
    const auto had = apt.download_file("python3-pip-whl", place.folder + "/tools/pip.deb");
    if (had || had.error().code == ErrorCode::cancelled) return had;
    // Before Debian 12 pip needs what Debian keeps apart from python3; later ones do not have it.
    (void)apt.download_file("python3-distutils", place.folder + "/tools/distutils.deb");
  }
  const auto names = list_folder(kHostWheels);
  if (names)
    for (const std::string& name : *names)
      if (name.starts_with("pip-") && name.ends_with(".whl"))
        return copy_file(std::string(kHostWheels) + "/" + name, place.folder + "/tools/" + name,
                         0644);
  return fail(
      ErrorCode::unavailable,
      "this machine has no pip to resolve with; install it with: apt install python3-pip-whl");
}

std::string base_of(const WheelPlace& place) { return place.suite.empty() ? "host" : "debian"; }

Result<std::string> read_left(const std::string& folder, const std::string& relative) {
  const Fd fd = LOAM_TRY(open_left(folder, relative));
  return read_fd(fd.get(), kAnswerBytesMax);
}

Result<WheelClosure> parse_answer(std::string_view text) {
  const Json answer = LOAM_TRY(Json::parse(text));
  WheelClosure closure;
  closure.python = LOAM_TRY(answer.string_at("python"));
  for (const Json& item : answer["wheels"].as_array()) {
    Wheel wheel;
    wheel.name = LOAM_TRY(item.string_at("name"));
    wheel.version = LOAM_TRY(item.string_at("version"));
    wheel.file = LOAM_TRY(item.string_at("file"));
    wheel.sha256 = LOAM_TRY(digest_at(item, "sha256"));
    if (!valid_wheel_file(wheel.file))
      return fail(ErrorCode::corrupt, "a wheel named " + printable(wheel.file));
    closure.wheels.push_back(std::move(wheel));
  }
  if (closure.wheels.size() > kWheelsMax)
    return fail(ErrorCode::too_large, "over " + std::to_string(kWheelsMax) + " wheels");
  return closure;
}

// "Collecting numpy==1.26", "Downloading …/numpy-1.26-….whl (18.3 MB)" → a step of progress.
OnLine pip_progress(const Context& context, const char* phase) {
  return [&context, phase](std::string_view line) {
    for (const std::string_view verb :
         {"Collecting ", "Downloading ", "Using cached ", "Processing ", "Installing "}) {
      if (!trim(line).starts_with(verb)) continue;
      std::string text(trim(line).substr(verb.size()));
      const auto slash = text.find(' ') == std::string::npos
                             ? text.rfind('/')
                             : text.substr(0, text.find(' ')).rfind('/');
      if (slash != std::string::npos) text = text.substr(slash + 1);
      report(context, {phase, 0, 0, text});
    }
  };
}

// Runs pip and puts what it brought into the store.
Result<WheelClosure> run_pip(const Context& context, const WheelPlace& place,
                             const std::string& requirements,
                             const std::vector<std::string>& options) {
  LOAM_CHECK(provide_pip(context, place));
  const PipSettings settings = LOAM_TRY(lay_out_pip_settings(context, place.folder));
  LOAM_CHECK(write_file_atomic(place.folder + "/requirements.txt", requirements,
                               {.mode = 0644, .durable = false}));
  BuildStep step{.folder = place.folder,
                 .argv = {"resolve_wheels.sh", base_of(place), "--requirements",
                          std::string(kInside) + "/requirements.txt"},
                 .environment = settings.environment,
                 .network = true};
  step.argv.insert(step.argv.end(), options.begin(), options.end());
  report(context, {"pip: resolving", 0, 0, ""});
  const auto ended = run_build(context, step, pip_progress(context, "pip: resolving"));
  const auto removed =
      remove_tree(place.folder + "/io");  // credentials: gone before anything else runs
  LOAM_CHECK(ended);
  LOAM_CHECK(removed);
  const std::string work = place.folder + "/work";
  if (!ended->ok()) {
    const auto said = read_left(work, "out/error.txt");
    return fail(ErrorCode::not_found, said ? printable(*said) : condensed(ended->tail));
  }
  const std::string answer = LOAM_TRY(read_left(work, "out/wheels.json"));
  WheelClosure closure = LOAM_TRY(parse_answer(answer));
  std::uint64_t done = 0;
  for (const Wheel& wheel : closure.wheels) {
    report(context, {"pip: keeping wheels", done++, closure.wheels.size(), wheel.file});
    const Fd file = LOAM_TRY(open_left(work, "out/" + wheel.file));
    LOAM_TRY(context.store->put_blob_from(file.get(), &wheel.sha256));
  }
  LOAM_CHECK(remove_tree(work));
  LOAM_CHECK(sandbox::give_folder(work, context.build_uids, context.build_gids));
  return closure;
}

// *.dist-info of the library is not needed inside; its few modules are.
Result<void> copy_library(const std::string& from, const std::string& to) {
  LOAM_CHECK(make_folders(to, 0755));
  for (const std::string& name : LOAM_TRY(list_folder(from))) {
    const std::string path = from + "/" + name;
    const auto below = open_file(path, O_RDONLY | O_DIRECTORY);
    if (name == "__pycache__") continue;
    if (below) {
      LOAM_CHECK(copy_library(path, to + "/" + name));
    } else {
      LOAM_CHECK(copy_file(path, to + "/" + name, 0644));
    }
  }
  return {};
}

}  // namespace

Result<InstallerLibrary> find_installer() {
  const auto output = run_collect(
      {.argv = {
           "/usr/bin/python3", "-I", "-c",
           "import importlib.metadata, installer, os; print(os.path.dirname(installer.__file__)); "
           "print(importlib.metadata.version('installer'))"}});
  const auto lines = output ? split(output->standard_output, '\n') : std::vector<std::string>();
  if (!output || !output->ok() || lines.size() < 2)
    return fail(ErrorCode::unavailable,
                "this machine cannot install wheels; install the installer with: apt install "
                "python3-installer");
  return InstallerLibrary{lines[0], lines[1]};
}

Result<WheelClosure> resolve_wheels(const Context& context, const WheelPlace& place,
                                    const std::vector<std::string>& requirements) {
  for (const std::string& line : requirements) LOAM_CHECK(check_requirement(line));
  std::vector<std::string> options;
  // What the host happens to have is not part of the lock; what apt put into a tree is.
  if (place.suite.empty()) options.push_back("--ignore-installed");
  return run_pip(context, place, join(requirements, "\n") + "\n", options);
}

Result<void> fetch_missing_wheels(const Context& context, const WheelPlace& place,
                                  const std::vector<Wheel>& wheels,
                                  const std::vector<std::string>& requirements) {
  std::string pinned;
  std::string names;
  for (const std::string& line : requirements)
    if (line.starts_with('-') && check_requirement(line)) pinned += line + "\n";
  for (const Wheel& wheel : wheels) {
    if (context.store->has_blob(wheel.sha256)) continue;
    pinned += wheel.name + "==" + wheel.version + " --hash=sha256:" + wheel.sha256.hex() + "\n";
    names += (names.empty() ? "" : ", ") + wheel.name + " " + wheel.version;
  }
  if (names.empty()) return {};
  const auto fetched = run_pip(context, place, pinned, {"--fetch"});
  if (fetched) return {};
  if (fetched.error().code != ErrorCode::not_found) return tl::unexpected(fetched.error());
  return fail(ErrorCode::not_found,
              names +
                  " as locked is no longer to be had from the configured index; renew with: "
                  "loam lock --update (" +
                  fetched.error().text + ")");
}

Result<void> install_wheels(const Context& context, const WheelPlace& place,
                            const WheelClosure& closure) {
  const InstallerLibrary library = LOAM_TRY(find_installer());
  LOAM_CHECK(make_folders(place.folder + "/tools", 0755));
  LOAM_CHECK(copy_library(library.folder, place.folder + "/tools/installer"));
  LOAM_CHECK(make_folders(place.folder + "/wheels", 0755));
  for (const Wheel& wheel : closure.wheels)
    LOAM_CHECK(copy_file(context.store->blob_path(wheel.sha256),
                         place.folder + "/wheels/" + wheel.file, 0644));
  const auto on_line = [&, done = std::uint64_t{0}](std::string_view line) mutable {
    if (line.starts_with("Installing "))
      report(context,
             {"pip: installing", done++, closure.wheels.size(), std::string(line.substr(11))});
  };
  const auto ended =
      LOAM_TRY(run_build(context,
                         {.folder = place.folder,
                          .argv = {"install_wheels.sh", base_of(place), closure.python},
                          .environment = {}},
                         on_line));
  if (ended.ok()) return {};
  return fail(ErrorCode::unavailable, "installing the wheels failed: " + condensed(ended.tail));
}

}  // namespace loam::env
