#include "node/devices.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "devices/huge_pages.h"
#include "node/cdi.h"
#include "node/gpu_units.h"

namespace loam::node {
namespace {

constexpr std::chrono::seconds kLookAgain{5};

sched::Sharing sharing_of(const DeviceUnit& unit) {
  if (unit.time_slices <= 1) return {};
  return {.mode = sched::SharingMode::time_sliced, .parts = unit.time_slices};
}

// The size that mmap(MAP_HUGETLB) gives (hugetlbpage.rst).
std::uint64_t default_huge_page_bytes() {
  const auto text = read_file("/proc/meminfo");
  if (!text) return 0;
  const auto at = text->find("Hugepagesize:");
  return at == std::string::npos ? 0 : std::strtoull(text->c_str() + at + 13, nullptr, 10) * 1024;
}

}  // namespace

Devices::Devices(Loop& loop, Database& database, Events events)
    : loop_(loop),
      db_(database),
      events_(std::move(events)),
      probe_{.lock_folder = sandbox::kDeviceLockFolder} {
  for (const Row& row : db_.query("SELECT device, reason, who, since_ms FROM device_drains", {}))
    drains_[row.text(0)] = {row.text(1), row.text(2), row.integer(3)};
}

void Devices::configure(const spec::NodeConfig& config) {
  std::vector<DeviceUnit> units = gpu_units(gpus_, config.gpus.time_slices);
  probe_.driver = {};
  for (const std::string& name : gpus_.libraries)
    probe_.driver.libraries.push_back({gpus_.folder + "/" + name, name});
  if (!gpus_.gpus.empty()) use_cdi(config.gpus.cdi, units);
  for (DeviceUnit& unit : declared_units(config.devices)) units.push_back(std::move(unit));
  probe_.ignored_users = config.gpus.ignore;
  huge_pages_ = huge_page_pool(devices::read_huge_pages(), default_huge_page_bytes());
  for (DeviceUnit& block : huge_page_units(huge_pages_)) units.push_back(std::move(block));
  order_.clear();
  units_.clear();
  for (DeviceUnit& unit : units) {
    order_.push_back(unit.id);
    units_[unit.id] = std::move(unit);
  }
  std::erase_if(busy_, [this](const auto& entry) { return !units_.contains(entry.first); });
  // What is not there is found now and not by the first job that is given it.
  for (const std::string& id : order_) {
    const DeviceUnit& unit = units_.at(id);
    if (!unit.unusable.empty())
      busy_[id].reason = unit.unusable;
    else if (unit.locked && !unit.nodes.empty())
      if (const auto lock = lock_of(unit); !lock) busy_[id].reason = lock.error().text;
  }
}

void Devices::found_gpus(Result<devices::GpuInventory> inventory,
                         std::shared_ptr<GpuQuestions> questions) {
  gpu_error_ = inventory ? "" : inventory.error().text;
  if (!inventory) log_warning("GPUs: " + gpu_error_);
  gpus_ = inventory ? std::move(*inventory) : devices::GpuInventory{};
  probe_.gpus = std::move(questions);
}

// A machine without such files, or with broken ones, goes by what the driver says.
void Devices::use_cdi(const std::vector<std::string>& folders, std::vector<DeviceUnit>& units) {
  const auto cdi = read_cdi(folders);
  if (!cdi) return log_warning("CDI: " + cdi.error().text);
  add_cdi(*cdi, gpus_, units);
  add_cdi(*cdi, probe_.driver);
  if (!cdi->files.empty()) log_info("GPUs also by " + join(cdi->files, ", "));
}

std::vector<sched::Link> Devices::links() const { return gpu_links(gpus_); }

void Devices::befell_gpu(const Json& event) {
  const auto xid = static_cast<std::uint64_t>(event["xid"].as_int());
  const std::string meaning = devices::xid_meaning(xid);
  const std::string reason =
      "Xid " + std::to_string(xid) + (meaning.empty() ? "" : ": " + meaning);
  std::vector<DeviceUnit> units;
  for (const std::string& id : order_) units.push_back(units_.at(id));
  const auto hit = units_of_xid(units, gpus_, event);
  if (hit.empty()) log_info(reason + " of " + printable(event["uuid"].as_string()));
  for (const std::string& id : hit)
    if (!drains_.contains(id)) (void)drain(id, reason, "loam");
}

std::vector<sched::Device> Devices::for_scheduler() const {
  std::vector<sched::Device> devices;
  for (const std::string& id : order_) {
    const DeviceUnit& unit = units_.at(id);
    auto [state, reason] = state_of(id);
    devices.push_back({.id = unit.id,
                       .kind = unit.kind,
                       .model = unit.model,
                       .memory_bytes = unit.memory_bytes,
                       .numa = unit.numa,
                       .parent = unit.parent,
                       .state = state,
                       .reason = std::move(reason),
                       .sharing = sharing_of(unit)});
  }
  return devices;
}

std::vector<GrantedUnit> Devices::granted(const std::vector<sched::DevicePart>& parts) const {
  std::vector<GrantedUnit> units;
  for (const sched::DevicePart& part : parts)
    if (const auto found = units_.find(part.device); found != units_.end())
      units.push_back({.unit = found->second, .parts = part.parts, .of = part.of});
  return units;
}

Json Devices::facts() const {
  Json list = Json::array();
  for (const std::string& id : order_) {
    const DeviceUnit& unit = units_.at(id);
    if (!unit.locked) continue;
    Json one = Json::object({{"id", unit.id},
                             {"kind", unit.kind},
                             {"model", unit.model},
                             {"memory_bytes", unit.memory_bytes}});
    if (!unit.uuid.empty()) {
      one.set("uuid", unit.uuid);
      one.set("driver", gpus_.driver);
    }
    list.push(std::move(one));
  }
  return list;
}

std::vector<std::string> Devices::kinds() const {
  std::vector<std::string> kinds;
  for (const std::string& id : order_) {
    const DeviceUnit& unit = units_.at(id);
    if (unit.locked && (kinds.empty() || kinds.back() != unit.kind)) kinds.push_back(unit.kind);
  }
  return kinds;
}

// ---- busy ----

void Devices::found_busy(const DeviceTrouble& trouble) {
  looked(trouble.device, trouble);
}

void Devices::look_again() {
  for (const auto& [device, busy] : busy_)
    if (!busy.holder) look_at(device);
}

void Devices::look_at(const std::string& device) {
  const auto busy = busy_.find(device);
  const auto unit = units_.find(device);
  if (busy == busy_.end() || unit == units_.end() || busy->second.looked_at) return;
  busy->second.looked_at = true;
  auto found = std::make_shared<std::optional<DeviceTrouble>>();
  loop_.offload(
      [piece = a_piece_of(unit->second), probe = probe_, found] {
        *found = DeviceLook(probe).trouble_of(piece);
      },
      [this, device, found, weak = std::weak_ptr(alive_)] {
        if (weak.expired()) return;
        if (const auto now = busy_.find(device); now != busy_.end()) {
          now->second.looked_at = false;
          looked(device, *found);
        }
      });
}

void Devices::looked(const std::string& device, const std::optional<DeviceTrouble>& trouble) {
  if (!units_.contains(device)) return;
  if (trouble && trouble->broken && !drains_.contains(device))
    (void)drain(device, trouble->reason, "loam");
  if (!trouble) {
    if (busy_.erase(device) > 0) tell(device);
    return;
  }
  Busy& busy = busy_[device];
  const bool news = busy.reason != trouble->reason;
  busy.reason = trouble->reason;
  watch_holder(device, trouble->pid);
  if (!busy.holder) arm_timer();
  if (news) tell(device);
}

void Devices::watch_holder(const std::string& device, pid_t pid) {
  Busy& busy = busy_.at(device);
  busy.watch.reset();
  busy.holder.reset();
  if (pid <= 0) return;
  busy.holder = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!busy.holder) return;
  busy.watch = loop_.watch_readable(busy.holder.get(), [this, device] {
    watch_holder(device, 0);
    look_at(device);
  });
}

// While somebody waits, and somebody is not watched.
void Devices::arm_timer() {
  if (timer_) return;
  const bool unwatched = std::any_of(busy_.begin(), busy_.end(),
                                     [](const auto& entry) { return !entry.second.holder; });
  if (!unwatched || !events_.anybody_waits()) return;
  timer_ = loop_.after(kLookAgain, [this] {
    timer_.reset();
    look_again();
    arm_timer();
  });
}

// ---- drained ----

bool Devices::drain(const std::string& device, const std::string& reason, const std::string& by) {
  if (!units_.contains(device)) return false;
  const Drain drain{printable(reason), by, wall_ms()};
  db_.write(
      "INSERT INTO device_drains(device, reason, who, since_ms) VALUES (?, ?, ?, ?) "
      "ON CONFLICT(device) DO UPDATE SET reason = excluded.reason, who = excluded.who, "
      "since_ms = excluded.since_ms",
      {device, drain.reason, drain.by, drain.since_ms});
  log_warning("device " + device + " is drained by " + by + ": " + drain.reason);
  drains_[device] = drain;
  tell(device);
  return true;
}

bool Devices::resume(const std::string& device) {
  if (!units_.contains(device) && !drains_.contains(device)) return false;
  db_.write("DELETE FROM device_drains WHERE device = ?", {device});
  if (drains_.erase(device) > 0) log_info("device " + device + " is handed out again");
  tell(device);
  return true;
}

// ---- what is shown ----

std::pair<sched::DeviceState, std::string> Devices::state_of(const std::string& device) const {
  if (const auto drain = drains_.find(device); drain != drains_.end())
    return {sched::DeviceState::drained, drain->second.reason};
  if (const auto busy = busy_.find(device); busy != busy_.end())
    return {sched::DeviceState::busy, busy->second.reason};
  return {sched::DeviceState::usable, ""};
}

void Devices::tell(const std::string& device) {
  if (!units_.contains(device)) return;
  const auto [state, reason] = state_of(device);
  events_.changed(device, state, reason);
}

std::vector<Devices::View> Devices::views() const {
  std::vector<View> views;
  std::set<std::string> sliced;
  for (const auto& [id, unit] : units_) sliced.insert(unit.parent);
  for (const std::string& id : order_) {
    View view{.unit = &units_.at(id), .sliced = sliced.contains(id)};
    std::tie(view.state, view.reason) = state_of(id);
    if (const auto drain = drains_.find(id); drain != drains_.end()) {
      view.drained_by = drain->second.by;
      view.drained_ms = drain->second.since_ms;
    }
    views.push_back(std::move(view));
  }
  return views;
}

}  // namespace loam::node
