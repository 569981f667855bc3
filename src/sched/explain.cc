#include "sched/explain.h"

#include <algorithm>

#include "base/text.h"
#include "sched/decide.h"
#include "sched/quota.h"
#include "sched/sched.h"
#include "sched/text.h"

namespace loam::sched {
namespace {

std::int64_t pieces_free(const DeviceNeed& need, const Vector& free) {
  std::int64_t pieces = 0;
  for (const Choice& choice : need.choices)
    pieces += choice.shared ? (free[choice.column] >= choice.parts ? 1 : 0)
                            : std::max<std::int64_t>(free[choice.column], 0);
  return pieces;
}

// Devices that would do but are out of service.
std::vector<std::string> out_of_service(const State& state, const DeviceNeed& need) {
  std::vector<std::string> list;
  for (const Choice& choice : need.choices)
    for (const std::uint32_t index : state.layout.dimension(choice.column).devices) {
      const Device& device = state.machine.devices[index];
      if (device.state == DeviceState::usable) continue;
      list.push_back(device.id + (device.state == DeviceState::drained ? " drained" : " busy") +
                     (device.reason.empty() ? "" : " (" + device.reason + ")"));
    }
  return list;
}

void find_shortages(const State& state, const Entry& entry, Explanation& why,
                    std::vector<std::size_t>& columns) {
  const Need& need = entry.need;
  const Vector& free = state.free;
  const Vector& all = state.layout.everything();
  const auto positive = [](std::int64_t amount) { return std::max<std::int64_t>(amount, 0); };
  if (need.cpu_milli > free[kCpu]) {
    why.short_of.push_back({.what = "CPU",
                            .model = {},
                            .needed = need.cpu_milli,
                            .free = positive(free[kCpu]),
                            .total = all[kCpu],
                            .out_of_service = {}});
    columns.push_back(kCpu);
  }
  if (need.memory_bytes > free[kMemory]) {
    why.short_of.push_back({.what = "memory",
                            .model = {},
                            .needed = need.memory_bytes,
                            .free = positive(free[kMemory]),
                            .total = all[kMemory],
                            .out_of_service = {}});
    columns.push_back(kMemory);
  }
  for (const DeviceNeed& device : need.devices) {
    const std::int64_t pieces = pieces_free(device, free);
    if (pieces >= device.pieces) continue;
    Shortage shortage{.what = device.kind_index < state.layout.kinds().size()
                                  ? state.layout.kinds()[device.kind_index]
                                  : "device",
                      .model = {},
                      .needed = device.pieces,
                      .free = pieces,
                      .total = pieces_free(device, all),
                      .out_of_service = out_of_service(state, device)};
    for (const DeviceRequest& request : entry.claim.rank.devices)
      if (request.kind == shortage.what) shortage.model = request.model;
    why.short_of.push_back(std::move(shortage));
    for (const Choice& choice : device.choices) columns.push_back(choice.column);
  }
}

void find_holders(const State& state, const std::vector<std::size_t>& columns, Explanation& why) {
  const auto add = [&](const Holding& holding) {
    const bool holds = std::any_of(columns.begin(), columns.end(),
                                   [&](std::size_t column) { return holding.returns[column] > 0; });
    const bool named = std::any_of(why.holders.begin(), why.holders.end(),
                                   [&](const Holder& one) { return one.claim == holding.claim; });
    if (!holds || named || why.holders.size() >= kHoldersNamed) return;
    why.holders.push_back({holding.claim,
                           holding.ends == kForever ? std::nullopt : std::optional(holding.ends),
                           holding.preempted});
  };
  for (const auto& [ends, claim, task, index] : state.ends) add(state.holdings[index]);
  for (const Holding& holding : state.holdings)
    if (holding.claim != 0 && holding.ends == kForever) add(holding);
}

}  // namespace

Explanation explain(const State& state, ClaimId id, const Outlook& outlook) {
  Explanation why;
  const Entry* entry = state.find(id);
  if (entry == nullptr || entry->pending.empty()) return why;
  const Claim& claim = entry->claim;
  why.at_once_max = claim.tasks_at_once != 0 && entry->running.size() >= claim.tasks_at_once;
  why.held = claim.held;
  why.waits = entry->running.empty() || !why.at_once_max;
  if (!why.waits || why.held) return why;
  if (!fits(entry->need, state.layout.everything())) {
    why.never = "cannot start: " + refusal(state, claim);
    why.unknown_why = "the machine does not have what it asks for";
    return why;
  }
  if (why.paused = state.paused; !why.paused.empty()) {
    why.unknown_why = "nothing starts now";
    return why;
  }
  why.quota = quota_against(state, *entry);
  std::vector<std::size_t> columns;
  find_shortages(state, *entry, why, columns);
  find_holders(state, columns, why);
  if (!fits(entry->need, state.usable)) {
    why.unknown_why = "devices are out of service";
    return why;
  }
  if (!why.quota.empty()) {
    why.unknown_why = "it waits for a quota";
    return why;
  }
  const auto place = outlook.place.find(id);
  why.ahead = place == outlook.place.end() ? outlook.order.size() : place->second;
  why.ahead_at_least = place == outlook.place.end();
  if (why.ahead > 0) why.first_ahead = outlook.order.front().claim;
  if (why.ahead_at_least) {
    why.unknown_why = "more than " + std::to_string(why.ahead) + " claims are ahead";
    return why;
  }
  why.expected_start = outlook.order[place->second].start;
  if (!why.expected_start) why.unknown_why = "those who hold what it needs have no time limit";
  return why;
}

namespace {

std::string shortage_text(const Shortage& one) {
  std::string text;
  if (one.what == "CPU") {
    text = cpus_text(one.free) + " of " + cpus_named(one.needed) + " free";
  } else if (one.what == "memory") {
    text = format_size(static_cast<std::uint64_t>(one.free)) + " of " +
           format_size(static_cast<std::uint64_t>(one.needed)) + " memory free";
  } else {
    text = std::to_string(one.free) + " of " + devices_named(one.needed, one.what, one.model) +
           " free";
  }
  for (const std::string& device : one.out_of_service) text += ", " + device;
  return text;
}

std::string until_text(const Holder& holder, const Wording& wording) {
  if (holder.preempted) return " (being preempted)";
  return holder.ends ? " until about " + wording.time(*holder.ends) : " (no time limit)";
}

}  // namespace

std::string explanation_text(const Explanation& why, const Wording& wording) {
  if (!why.waits) return "";
  if (why.held) return "held";
  if (!why.never.empty()) return why.never;
  if (!why.paused.empty()) return why.paused;
  std::vector<std::string> parts;
  if (!why.quota.empty()) parts.push_back(why.quota);
  for (const Shortage& one : why.short_of) parts.push_back(shortage_text(one));
  if (!why.holders.empty()) {
    std::string behind = "behind " + wording.claim(why.holders.front().claim) +
                         until_text(why.holders.front(), wording);
    if (why.holders.size() > 1)
      behind += " and " + std::to_string(why.holders.size() - 1) +
                (why.holders.size() >= kHoldersNamed ? " or more others"
                 : why.holders.size() == 2           ? " other"
                                                     : " others");
    parts.push_back(behind);
  }
  if (why.ahead > 0) {
    const std::string more = why.ahead_at_least ? "more than " : "";
    parts.push_back(more + std::to_string(why.ahead) + (why.ahead == 1 ? " claim" : " claims") +
                    " ahead, first " + wording.claim(why.first_ahead));
  }
  if (why.expected_start)
    parts.push_back("expected start about " + wording.time(*why.expected_start));
  return parts.empty() ? "waits" : join(parts, "; ");
}

}  // namespace loam::sched
