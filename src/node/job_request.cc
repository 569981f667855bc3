#include "node/job_request.h"

#include <algorithm>

#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::int64_t kCountMax = 1024;
constexpr std::size_t kKindsMax = 64;
constexpr std::size_t kTextBytesMax = 128;
constexpr std::int64_t kBytesMax = std::int64_t{1} << 50;
constexpr const char* kTimeSlice = "time-slice";

struct Pieces {
  std::int64_t count = 1, memory_bytes = 0;
  bool time_slice = false;
};
Json device_json(const std::string& kind, const std::string& model, const Pieces& pieces) {
  Json device = Json::object({{"kind", kind},
                              {"count", pieces.count},
                              {"model", model},
                              {"memory_bytes", pieces.memory_bytes}});
  if (pieces.time_slice) device.set("share", kTimeSlice);
  return device;
}

Result<Json> checked_device(const Json& device) {
  const std::string kind = LOAM_TRY(device.string_at("kind"));
  const std::int64_t count = device["count"].as_int(1);
  const std::int64_t memory_bytes = device["memory_bytes"].as_int();
  const std::string& model = device["model"].as_string();
  if (kind.empty() || kind.size() > kTextBytesMax || model.size() > kTextBytesMax)
    return fail(ErrorCode::invalid, "command.devices: a name of at most 128 bytes is expected");
  if (count < 1 || count > kCountMax)
    return fail(ErrorCode::invalid, "command.devices: " + printable(kind) +
                                        ": expected a count from 1 to 1024, found " +
                                        std::to_string(count));
  if (memory_bytes < 0 || memory_bytes > kBytesMax)
    return fail(ErrorCode::invalid, "command.devices: memory_bytes is out of range");
  const std::string& share = device["share"].as_string();
  if (device.has("share") && share != kTimeSlice)
    return fail(ErrorCode::invalid, "command.devices: " + printable(kind) + ": share: expected " +
                                        kTimeSlice + ", found '" + printable(share) + "'");
  return device_json(kind, model,
                     {.count = count, .memory_bytes = memory_bytes, .time_slice = !share.empty()});
}

std::uint64_t blocks_for(std::int64_t huge_bytes, const HugePagePool& pool) {
  const auto bytes = static_cast<std::uint64_t>(huge_bytes);
  return pool.block_bytes == 0 ? 0 : (bytes + pool.block_bytes - 1) / pool.block_bytes;
}

}  // namespace

Json request_json(const spec::Resources& resources, int ranks) {
  Json devices = Json::array();
  for (const spec::DeviceRequest& device : resources.devices)
    devices.push(device_json(device.kind, device.model,
                             {.count = device.count,
                              .memory_bytes = static_cast<std::int64_t>(device.memory_bytes),
                              .time_slice = device.time_slice}));
  Json request = Json::object({{"pin", resources.pin},
                               {"huge_bytes", resources.huge_bytes},
                               {"devices", std::move(devices)}});
  if (ranks > 0) request.set("ranks", ranks);
  return request;
}

Result<Json> checked_request(const Json& command) {
  const std::int64_t huge_bytes = command["huge_bytes"].as_int();
  if (huge_bytes < 0 || huge_bytes > kBytesMax)
    return fail(ErrorCode::invalid, "command.huge_bytes: out of range");
  const bool pin = command["pin"].as_bool();
  if (pin && command["cpu_milli"].as_int(1000) % 1000 != 0)
    return fail(ErrorCode::invalid, "pinned CPUs are whole ones; ask for a whole number of them");
  if (command["devices"].size() > kKindsMax)
    return fail(ErrorCode::too_large, "command.devices: more than 64 kinds");
  Json devices = Json::array();
  for (const Json& device : command["devices"].as_array())
    devices.push(LOAM_TRY(checked_device(device)));
  Json request =
      Json::object({{"pin", pin}, {"huge_bytes", huge_bytes}, {"devices", std::move(devices)}});
  if (!command.has("ranks")) return request;
  const std::int64_t ranks = command["ranks"].as_int();
  if (ranks < 1 || ranks > spec::kRanksMax)
    return fail(ErrorCode::invalid, "command.ranks: expected a number from 1 to " +
                                        std::to_string(spec::kRanksMax));
  if (command["terminal"].as_bool() || command["standard_input"].as_bool())
    return fail(ErrorCode::invalid,
                "command.ranks: a gang has neither a terminal nor standard input");
  request.set("ranks", ranks);
  return request;
}

std::uint32_t ranks_of(const Json& request) {
  return static_cast<std::uint32_t>(std::max<std::int64_t>(request["ranks"].as_int(1), 1));
}

void add_request(const Json& document, const HugePagePool& pool, sched::Request& request) {
  request.pin = document["pin"].as_bool();
  for (const Json& device : document["devices"].as_array())
    request.devices.push_back(
        {.kind = device["kind"].as_string(),
         .count = static_cast<std::uint32_t>(device["count"].as_int(1)),
         .model = device["model"].as_string(),
         .memory_bytes_min = static_cast<std::uint64_t>(device["memory_bytes"].as_int()),
         .share = device["share"].as_string() == kTimeSlice ? sched::Share::time_slice
                                                            : sched::Share::whole});
  if (const std::int64_t huge_bytes = document["huge_bytes"].as_int(); huge_bytes > 0)
    request.devices.push_back(
        {.kind = kHugePageKind,
         .count = static_cast<std::uint32_t>(
             std::max<std::uint64_t>(blocks_for(huge_bytes, pool), 1))});
}

std::string request_problem(const Json& document, const std::vector<std::string>& kinds,
                            const HugePagePool& pool) {
  for (const Json& device : document["devices"].as_array()) {
    const std::string& kind = device["kind"].as_string();
    if (kind == "gpu" || std::find(kinds.begin(), kinds.end(), kind) != kinds.end()) continue;
    const std::string near = nearest(kind, kinds);
    return "asks for '" + printable(kind) + "', which this machine does not declare" +
           (!near.empty()   ? "; did you mean '" + near + "'?"
            : kinds.empty() ? ""
                            : "; it has " + join(kinds, ", "));
  }
  const std::int64_t huge_bytes = document["huge_bytes"].as_int();
  if (huge_bytes > 0 && blocks_for(huge_bytes, pool) > pool.blocks)
    return "asks for " + format_size(static_cast<std::uint64_t>(huge_bytes)) +
           " of huge pages; this machine has " + format_size(pool.blocks * pool.block_bytes) +
           " set aside (sysctl vm.nr_hugepages)";
  if (huge_bytes > 0 && pool.blocks == 0)
    return "asks for huge pages; this machine has none set aside (sysctl vm.nr_hugepages)";
  return "";
}

}  // namespace loam::node
