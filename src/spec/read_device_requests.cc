// What a job asks for besides CPUs and memory: `gpus: 2`, `devices: {camera: {model: …}}`.
#include "spec/checks.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

constexpr IntegerRange kCount{0, 1024};
constexpr SizeRange kDeviceMemory{1u << 20, 1ull << 50};
constexpr std::size_t kKindsMax = 64;

std::uint32_t read_count(const Value& value) {
  return static_cast<std::uint32_t>(value.integer(kCount).value_or(0));
}

constexpr const char* kTimeSlice = "time-slice";

// No default, and no short form: who shares a GPU that nothing divides has written so.
bool read_share(const Value& value) {
  const auto text = value.text("time-slice");
  if (text && *text != kTimeSlice)
    value.problem("'" + *text + "': expected time-slice; a part that is enforced is a MIG slice, "
                  "asked for by model: or memory:");
  return text && *text == kTimeSlice;
}

DeviceRequest read_request(const std::string& kind, const Value& value) {
  DeviceRequest request;
  request.kind = kind;
  request.place = value.key_place();
  if (!value.is_map()) {
    request.count = read_count(value);
    return request;
  }
  std::vector<std::string> keys{"count", "model", "memory"};
  if (kind == "gpu") keys.push_back("share");
  const Section section(value, keys, "a number, or a map such as {count: 2, memory: 40GiB}");
  if (const auto count = section.find("count")) request.count = read_count(*count);
  // As written: 4090 is a model too.
  if (const auto model = section.find("model"))
    request.model = model->written("a part of the model's name, such as H100").value_or("");
  if (const auto memory = section.find("memory"))
    request.memory_bytes = memory->size_bytes(kDeviceMemory).value_or(0);
  if (const auto share = section.find("share")) request.time_slice = read_share(*share);
  return request;
}

}  // namespace

std::vector<DeviceRequest> read_device_requests(const Section& resources) {
  std::vector<DeviceRequest> requests;
  const auto add = [&](DeviceRequest request) {
    if (request.count > 0) requests.push_back(std::move(request));
  };
  if (const auto gpus = resources.find("gpus")) add(read_request("gpu", *gpus));
  const auto devices = resources.find("devices");
  if (!devices) return requests;
  for (const NamedValue& member : devices->members("a map such as {licence-x: 1}")) {
    if (requests.size() >= kKindsMax) {
      member.value.problem("more than " + std::to_string(kKindsMax) + " kinds of devices");
      break;
    }
    if (member.name == "gpu" || member.name == "gpus")
      member.value.reader().problem(member.value.key_place(), member.value.key(),
                                    "GPUs have a key of their own: write `gpus:` beside devices:");
    else if (check_name(member))
      add(read_request(member.name, member.value));
  }
  return requests;
}

}  // namespace loam::spec
