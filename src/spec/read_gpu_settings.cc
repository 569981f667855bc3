// `gpus:` of the node's configuration.
//
//   gpus: {library: /run/nvidia/driver/usr/lib64/libnvidia-ml.so.1, ignore: [Xorg, dcgm-exporter]}
#include "spec/checks.h"
#include "spec/node_config_parts.h"

namespace loam::spec {
namespace {

constexpr std::size_t kIgnoredMax = 64;
constexpr std::size_t kFoldersMax = 16;
constexpr IntegerRange kTimeSlices{1, 64};
constexpr std::size_t kNameBytesMax = 15;  // what the kernel keeps of a program's name (prctl(2))

std::vector<std::string> read_programs(const Value& value) {
  std::vector<std::string> programs;
  for (const Value& item : value.items("a list of programs' names such as [Xorg, gnome-shell]")) {
    if (programs.size() >= kIgnoredMax) {
      item.problem("more than " + std::to_string(kIgnoredMax) + " programs");
      break;
    }
    auto name = item.text("a program's name such as Xorg");
    if (!name) continue;
    if (name->find('/') != std::string::npos)
      item.problem("'" + *name + "' is a path; expected a program's name as ps -o comm shows it");
    else
      programs.push_back(name->substr(0, kNameBytesMax));
  }
  return programs;
}

std::vector<std::string> read_folders(const Value& value) {
  std::vector<std::string> folders;
  for (const Value& item : value.items("a list of folders such as [/etc/cdi]")) {
    if (folders.size() >= kFoldersMax) {
      item.problem("more than " + std::to_string(kFoldersMax) + " folders");
      break;
    }
    if (auto folder = read_absolute_path(item, "a folder")) folders.push_back(std::move(*folder));
  }
  return folders;
}

}  // namespace

GpuSettings read_gpu_settings(const Value& value) {
  const Section section(value, {"library", "cdi", "ignore", "time_slices"}, "a map such as {ignore: [Xorg, gnome-shell]}");
  GpuSettings settings;
  settings.place = value.key_place();
  if (const auto library = section.find("library"))
    settings.library =
        read_absolute_path(*library, "the file of the driver's libnvidia-ml.so.1").value_or("");
  if (const auto cdi = section.find("cdi")) settings.cdi = read_folders(*cdi);
  if (const auto ignore = section.find("ignore")) settings.ignore = read_programs(*ignore);
  if (const auto slices = section.find("time_slices"))
    settings.time_slices = static_cast<std::uint32_t>(slices->integer(kTimeSlices).value_or(1));
  return settings;
}

Json to_json(const GpuSettings& settings) {
  return Json::object(
      {{"library", settings.library.empty() ? Json() : Json(settings.library)},
       {"cdi", Json::array_of(settings.cdi)},
       {"ignore", Json::array_of(settings.ignore)},
       {"time_slices", settings.time_slices}});
}

}  // namespace loam::spec
