#include "node/device_routes.h"

#include <map>
#include <utility>

#include "base/text.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::size_t kReasonBytesMax = 200;

struct Held {
  sched::ClaimId claim = 0;
  std::uint32_t parts = 1, of = 1;
};

std::multimap<std::string, Held> held_devices(const sched::State& state) {
  std::multimap<std::string, Held> held;
  for (const sched::Holding& holding : state.holdings)
    if (holding.claim != 0)
      for (const sched::RankPlacement& rank : holding.placement.ranks)
        for (const sched::DevicePart& part : rank.devices)
          held.emplace(part.device, Held{holding.claim, part.parts, part.of});
  return held;
}

const char* state_name(const Devices::View& view, bool held) {
  if (view.state == sched::DeviceState::drained) return "drained";
  if (view.sliced) return "sliced";
  if (held) return "in use";
  return view.state == sched::DeviceState::busy ? "busy" : "free";
}

Json number_or_null(std::int64_t number, bool known) { return known ? Json(number) : Json(); }

}  // namespace

void DeviceRoutes::add_routes(Routes& routes) {
  routes.add("GET", "/v1/devices",
             [this](const Request&, const Routes::Params&, ResponderPtr responder) {
               list(std::move(responder));
             });
  routes.add("POST", "/v1/devices/:device/drain",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               drain(request, params.at("device"), responder);
             });
  routes.add("POST", "/v1/devices/:device/resume",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               resume(request, params.at("device"), responder);
             });
}

// Those that nobody of ours has are looked at first: another node may have taken one meanwhile.
void DeviceRoutes::list(ResponderPtr responder) {
  const auto held = held_devices(node_.queue.state());
  auto units = std::make_shared<std::vector<DeviceUnit>>();
  bool any_gpu = false;
  for (const Devices::View& view : node_.devices.views()) {
    any_gpu = any_gpu || !view.unit->uuid.empty();
    if (view.unit->locked && !view.sliced && !held.contains(view.unit->id))
      units->push_back(*view.unit);
  }
  auto found = std::make_shared<std::vector<std::pair<std::string, std::optional<DeviceTrouble>>>>();
  auto states = std::make_shared<Result<Json>>();
  node_.loop.offload(
      [units, found, states, any_gpu, probe = node_.devices.probe()] {
        DeviceLook look(probe);
        for (const DeviceUnit& unit : *units) found->emplace_back(unit.id, look.trouble_of(a_piece_of(unit)));
        if (any_gpu) *states = look.gpu_states();
      },
      [this, found, states, responder = std::move(responder)] {
        const auto now = held_devices(node_.queue.state());
        for (const auto& [device, trouble] : *found)
          if (!now.contains(device)) node_.devices.looked(device, trouble);
        responder->reply(200, document(*states));
      });
}

Json DeviceRoutes::document(const Result<Json>& gpu_states) const {
  const sched::State& state = node_.queue.state();
  const auto held = held_devices(state);
  Json devices = Json::array();
  std::uint64_t huge_blocks_held = 0;
  for (const Devices::View& view : node_.devices.views()) {
    const DeviceUnit& unit = *view.unit;
    const auto [first, last] = held.equal_range(unit.id);
    if (unit.kind == kHugePageKind) {
      huge_blocks_held += first != last ? 1 : 0;
      continue;
    }
    Json holders = Json::array();
    for (auto holder = first; holder != last; ++holder) {
      Json one = runs_.who(static_cast<JobId>(holder->second.claim));
      one.set("parts", holder->second.parts);
      one.set("of", holder->second.of);
      holders.push(std::move(one));
    }
    Json one = Json::object({{"id", unit.id},
                             {"kind", unit.kind},
                             {"model", unit.model},
                             {"memory_bytes", unit.memory_bytes},
                             {"numa", number_or_null(unit.numa, unit.numa >= 0)},
                             {"nodes", Json::array_of(unit.nodes)},
                             {"time_slices", unit.time_slices},
                             {"state", state_name(view, first != last)},
                             {"reason", view.reason},
                             {"holders", std::move(holders)}});
    if (!unit.uuid.empty()) {
      one.set("uuid", unit.uuid);
      if (!unit.parent.empty()) one.set("parent", unit.parent);
      if (gpu_states) one.set("gpu", (*gpu_states)[unit.uuid]);
    }
    if (!view.drained_by.empty())
      one.set("drained",
              Json::object({{"by", view.drained_by}, {"since_ms", view.drained_ms}}));
    devices.push(std::move(one));
  }
  std::vector<std::uint32_t> pinned;
  for (std::size_t i = 0; i < state.machine.cpus.size(); ++i)
    if (state.pinned[i]) pinned.push_back(state.machine.cpus[i].id);
  const HugePagePool& pool = node_.devices.huge_pages();
  const devices::GpuInventory& gpus = node_.devices.gpus();
  Json driver = gpus.driver.empty()
                    ? Json()
                    : Json::object({{"version", gpus.driver}, {"cuda", gpus.cuda}});
  return Json::object(
      {{"devices", std::move(devices)},
       {"driver", std::move(driver)},
       {"cpus", Json::object({{"pinned", format_numbers(pinned)},
                              {"shared", format_numbers(sched::shared_cpus(state))}})},
       {"huge_pages", Json::object({{"page_bytes", pool.page_bytes},
                                    {"total_bytes", pool.blocks * pool.block_bytes},
                                    {"given_bytes", huge_blocks_held * pool.block_bytes}})}});
}

Result<void> DeviceRoutes::check(const Request& request, const std::string& device) const {
  const Identity& identity = node_.context.identity;
  if (!is_owner(identity, request.caller) &&
      !is_admin(identity, node_.config.admins, request.caller))
    return fail(ErrorCode::denied,
                "only " + std::string(identity.rootless ? "its user" : "root and the admins") +
                    " may take devices of this node out of service");
  if (node_.devices.known(device)) return {};
  std::vector<std::string> ids;
  for (const Devices::View& view : node_.devices.views()) ids.push_back(view.unit->id);
  const std::string near = nearest(device, ids);
  return fail(ErrorCode::not_found, "no device '" + printable(device) + "' on this machine" +
                                        (near.empty() ? " (see: loam devices)"
                                                      : "; did you mean '" + near + "'?"));
}

void DeviceRoutes::drain(const Request& request, const std::string& device,
                         const ResponderPtr& responder) {
  if (auto checked = check(request, device); !checked)
    return responder->reply_error(checked.error());
  const std::string& reason = request.body["reason"].as_string();
  if (reason.empty() || reason.size() > kReasonBytesMax)
    return responder->reply_error(
        {ErrorCode::invalid, "reason: expected why, in at most 200 bytes: those who wait read it"});
  (void)node_.devices.drain(device, reason, user_name(request.caller.uid));
  responder->reply(200, Json::object({{"drained", device}}));
}

void DeviceRoutes::resume(const Request& request, const std::string& device,
                          const ResponderPtr& responder) {
  if (auto checked = check(request, device); !checked)
    return responder->reply_error(checked.error());
  (void)node_.devices.resume(device);
  responder->reply(200, Json::object({{"resumed", device}}));
}

}  // namespace loam::node
