#include "devices/driver_files.h"

#include <stdlib.h>

#include <array>
#include <charconv>
#include <memory>
#include <string_view>

#include "base/files.h"
#include "base/text.h"

namespace loam::devices {
namespace {

constexpr std::array<std::string_view, 5> kPrefixes{"libcuda", "libnvidia-", "libnvcuvid", "libnvoptix",
                                                    "libcudadebugger"};

bool is_of_driver(std::string_view name) {
  for (const std::string_view prefix : kPrefixes)
    if (name.starts_with(prefix)) return name.find(".so") != std::string_view::npos;
  return false;
}

std::string real_path(const std::string& path) {
  const std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), &::free);
  return real ? real.get() : "";
}

}  // namespace

std::vector<std::string> driver_libraries(const std::string& folder, const std::string& version) {
  std::vector<std::string> libraries;
  const auto names = list_folder(folder);
  if (!names || version.empty()) return libraries;
  for (const std::string& name : *names)
    // libnvidia-egl-* and their like have versions of their own: they belong to other packages.
    if (is_of_driver(name) && real_path(folder + "/" + name).ends_with(".so." + version))
      libraries.push_back(name);
  return libraries;
}

std::optional<std::int32_t> mig_access_minor(const std::string& folder, std::int32_t gpu_minor,
                                              std::uint32_t gpu_instance,
                                              std::optional<std::uint32_t> compute_instance) {
  std::string path =
      folder + "/gpu" + std::to_string(gpu_minor) + "/mig/gi" + std::to_string(gpu_instance);
  if (compute_instance) path += "/ci" + std::to_string(*compute_instance);
  const auto text = read_file(path + "/access");
  if (!text) return {};
  for (const std::string& line : split(*text, '\n')) {
    constexpr std::string_view kKey = "DeviceFileMinor:";
    if (!line.starts_with(kKey)) continue;
    const std::string_view value = trim(std::string_view(line).substr(kKey.size()));
    std::int32_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error == std::errc() && end == value.data() + value.size()) return number;
  }
  return {};
}

}  // namespace loam::devices
