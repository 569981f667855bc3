#include "sched/text.h"

#include <cstdio>

namespace loam::sched {

std::string cpus_text(std::int64_t milli) {
  if (milli < 0) milli = 0;
  std::string text = std::to_string(milli / 1000);
  if (milli % 1000 == 0) return text;
  char fraction[8];
  std::snprintf(fraction, sizeof fraction, ".%03u", static_cast<unsigned>(milli % 1000));
  text += fraction;
  while (text.back() == '0') text.pop_back();
  return text;
}

std::string cpus_named(std::int64_t milli) {
  return cpus_text(milli) + (milli == 1000 ? " CPU" : " CPUs");
}

std::string devices_named(std::int64_t count, const std::string& kind, const std::string& model) {
  const std::string name = kind == "gpu" ? "GPU" : kind;
  return std::to_string(count) + " " + (model.empty() ? "" : model + " ") + name +
         (count == 1 ? "" : "s");
}

}  // namespace loam::sched
