// loam-gateway: one project's endpoint, until TERM.
#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "gateway/gateway.h"

namespace {

constexpr const char* kUsage =
    "Usage: loam-gateway --endpoint FOLDER\n"
    "Serves a project's models over HTTP (Open Inference Protocol v2) as FOLDER/plan/plan.json "
    "says.\n"
    "Started by the loam node.\n";

int serve(const char* folder) {
  auto gateway = loam::gateway::Gateway::open(folder);
  if (!gateway) {
    loam::log_error(gateway.error().text);
    return 1;
  }
  const auto served = (*gateway)->run();
  if (!served) loam::log_error(served.error().text);
  return served ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (argc == 3 && first == "--endpoint") return serve(argv[2]);
  if (argc == 2 && first == "--version") return std::printf("loam-gateway %s\n", LOAM_VERSION) < 0;
  if (argc == 2 && first == "--help") return std::fputs(kUsage, stdout) < 0;
  std::fputs(kUsage, stderr);
  return 2;
}
