// Running the distribution's tools (apt-get) and build steps: their lines as progress, their last
// words as the error, an end when the caller cancels. Folders that vanish with their owner.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/process.h"
#include "base/result.h"
#include "env/env.h"
#include "sandbox/build.h"

namespace loam::env {

inline constexpr std::string_view kInside = "/mnt";  // where a build sees its folder

// A folder below STATE/builds, removed with everything in it when this goes. 0755: a build's ids
// walk through it where it is bound; on the host STATE/builds keeps everybody out.
class TempFolder {
 public:
  static Result<TempFolder> make(const std::string& parent);
  TempFolder(TempFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempFolder& operator=(TempFolder&&) = delete;
  ~TempFolder();
  const std::string& path() const { return path_; }

 private:
  explicit TempFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

using OnLine = std::function<void(std::string_view)>;

struct Ended {
  int status = 0;                 // as waitpid's
  std::vector<std::string> tail;  // the last lines of both streams
  bool ok() const { return status == 0; }
};

inline constexpr std::size_t kTailLines = 60;
inline constexpr std::size_t kLineBytesMax = 4096;

// Standard output and error together, line by line. cancelled: the process is killed.
Result<Ended> run_lines(const Context& context, SpawnOptions options, const OnLine& on_line);

struct BuildStep {
  std::string folder;  // TempFolder's: bound at /mnt; its work/ belongs to the build's ids
  std::vector<std::string> argv;  // argv[0]: a script of python/build
  std::vector<std::pair<std::string, std::string>> environment;  // beyond the fixed one
  bool network = false;
};
Result<Ended> run_build(const Context& context, const BuildStep& step, const OnLine& on_line);

// scripts/ (copied from the shared folder) and an empty work/ of the build's.
Result<void> prepare_folder(const Context& context, const std::string& folder);

// What a build left: a regular file below its folder, never through a symlink.
Result<Fd> open_left(const std::string& folder, const std::string& relative);

// The lines that say why: errors where there are any, else the last few.
std::string condensed(const std::vector<std::string>& tail);

Result<void> copy_file(const std::string& from, const std::string& to, mode_t mode);
// not_found with the mend where the program is not in PATH.
Result<void> require_program(const std::string& name, const std::string& package);
// The first version-like word of `NAME --version`, "" where it cannot be had.
std::string program_version(const std::string& name);

void report(const Context& context, const Progress& progress);
bool is_cancelled(const Context& context);

}  // namespace loam::env
