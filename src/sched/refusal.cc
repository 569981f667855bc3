// What can never run here, said with what there is.
#include <algorithm>

#include "base/text.h"
#include "sched/quota.h"
#include "sched/sched.h"
#include "sched/text.h"

namespace loam::sched {
namespace {

// "2 GPUs (NVIDIA A100, 40.0 GiB)" for each sort of the kind; "no GPUs".
std::string what_there_is(const Layout& layout, const std::string& kind) {
  std::vector<std::pair<std::string, std::int64_t>> counts;  // shared devices have a dimension each
  for (const Dimension& one : layout.dimensions()) {
    if (one.kind != kind) continue;
    std::vector<std::string> facts;
    if (!one.model.empty()) facts.push_back(one.model);
    if (one.memory_bytes > 0) facts.push_back(format_size(one.memory_bytes));
    if (one.slice) facts.push_back("slices");
    if (one.sharing.mode == SharingMode::enforced)
      facts.push_back("in " + std::to_string(one.sharing.parts) + " parts");
    if (one.sharing.mode == SharingMode::time_sliced)
      facts.push_back("in " + std::to_string(one.sharing.parts) + " time slices, not enforced");
    const std::string sort = facts.empty() ? "" : " (" + join(facts, ", ") + ")";
    const auto known = std::find_if(counts.begin(), counts.end(),
                                    [&](const auto& entry) { return entry.first == sort; });
    auto& entry = known != counts.end() ? *known : counts.emplace_back(sort, 0);
    entry.second += static_cast<std::int64_t>(one.devices.size());
  }
  std::vector<std::string> sorts;
  for (const auto& [sort, count] : counts) sorts.push_back(devices_named(count, kind) + sort);
  return sorts.empty() ? "no " + (kind == "gpu" ? std::string("GPU") : kind) + "s"
                       : join(sorts, " and ");
}

std::string what_is_asked(const DeviceRequest& request, std::int64_t pieces) {
  std::string text;
  if (request.share == Share::part) text = "parts of ";
  if (request.share == Share::time_slice) text = "time slices of ";
  text += devices_named(pieces, request.kind, request.model);
  if (request.memory_bytes_min > 0)
    text += " with " + format_size(request.memory_bytes_min) + " or more";
  return text;
}

std::string device_refusal(const State& state, const Claim& claim) {
  Claim alone = claim;
  for (const DeviceRequest& request : claim.rank.devices) {
    alone.rank = {.devices = {request}};
    if (fits(state.layout.need_of(alone), state.layout.everything())) continue;
    return "asks for " + what_is_asked(request, std::int64_t{request.count} * claim.ranks) +
           "; this machine has " + what_there_is(state.layout, request.kind);
  }
  return "asks for more devices of one kind than there are; this machine has " +
         what_there_is(state.layout, claim.rank.devices.front().kind);
}

}  // namespace

std::string refusal(const State& state, const Claim& asked) {
  Claim claim = asked;
  claim.ranks = std::max<std::uint32_t>(claim.ranks, 1);
  const Need need = state.layout.need_of(claim);
  const Vector& all = state.layout.everything();
  if (need.cpu_milli > all[kCpu])
    return "asks for " + cpus_named(need.cpu_milli) + (claim.rank.pin ? " on whole cores" : "") +
           "; this machine has " + cpus_text(all[kCpu]);
  if (need.memory_bytes > all[kMemory])
    return "asks for " + format_size(static_cast<std::uint64_t>(need.memory_bytes)) +
           " of memory; this machine has " + format_size(static_cast<std::uint64_t>(all[kMemory]));
  if (!fits(need, all)) return device_refusal(state, claim);
  return quota_refusal(state, claim, need);
}

}  // namespace loam::sched
