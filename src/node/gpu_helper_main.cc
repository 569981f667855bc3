#include "node/gpu_helper_main.h"

#include <unistd.h>

#include <chrono>
#include <thread>
#include <vector>

#include "base/packet.h"
#include "devices/nvml.h"

namespace loam::node {
namespace {

constexpr std::chrono::hours kEventTime{24};  // then it waits again

void tell_events(devices::Nvml& nvml) {
  for (;;) {
    const auto xid = nvml.wait_for_xid(kEventTime);
    Json event = Json::object();
    if (!xid)
      event.set("no_events", xid.error().text);
    else if (*xid) {
      event = Json::object({{"xid", (*xid)->xid}, {"uuid", (*xid)->uuid}});
      if ((*xid)->gpu_instance) event.set("gpu_instance", *(*xid)->gpu_instance);
    }
    if (event.size() > 0 && send_packet(kGpuEvents, event.dump()) < 0) return;
    if (!xid) return;
  }
}

Json answer_to(const std::string& question, const Result<std::unique_ptr<devices::Nvml>>& nvml) {
  if (!nvml) return Json::object({{"error", nvml.error().text}});
  if (question == "states") return Json::object({{"states", (*nvml)->states()}});
  const auto inventory = (*nvml)->inventory();
  if (!inventory) return Json::object({{"error", inventory.error().text}});
  return Json::object({{"inventory", devices::to_json(*inventory)}});
}

}  // namespace

int gpu_helper_main(const char* library) {
  const auto nvml = devices::Nvml::load(library);
  std::thread events;
  if (nvml) events = std::thread([&] { tell_events(**nvml); });
  std::vector<char> buffer(kGpuPacketBytesMax);
  for (;;) {
    const ReceivedPacket packet = receive_packet(kGpuQuestions, buffer);
    if (packet.size_bytes <= 0) break;
    const auto question =
        Json::parse(std::string_view(buffer.data(), static_cast<std::size_t>(packet.size_bytes)));
    if (!question) break;
    Json answer = answer_to((*question)["ask"].as_string(), nvml);
    answer.set("id", (*question)["id"].as_int());
    if (send_packet(kGpuQuestions, answer.dump()) < 0) break;
  }
  ::_exit(0);  // the other thread waits in the driver
}

}  // namespace loam::node
