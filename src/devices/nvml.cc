#include "devices/nvml.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "devices/driver_files.h"
#include "devices/nvml_abi.h"

namespace loam::devices {
namespace {

using namespace nvml;

constexpr unsigned kGpusMax = 64;
constexpr unsigned kProcessesMax = 256;  // of one device

// The entry points by their names in the library; absent ones are null.
struct Calls {
  Return (*init)() = nullptr;
  Return (*shutdown)() = nullptr;
  const char* (*error_string)(Return) = nullptr;
  Return (*driver_version)(char*, unsigned) = nullptr;
  Return (*cuda_version)(int*) = nullptr;
  Return (*count)(unsigned*) = nullptr;
  Return (*handle)(unsigned, Device*) = nullptr;
  Return (*name)(Device, char*, unsigned) = nullptr;
  Return (*uuid)(Device, char*, unsigned) = nullptr;
  Return (*minor)(Device, unsigned*) = nullptr;
  Return (*pci)(Device, PciInfo*) = nullptr;
  Return (*memory)(Device, Memory*) = nullptr;
  Return (*memory_v2)(Device, MemoryV2*) = nullptr;
  Return (*node_affinity)(Device, unsigned, unsigned long*, unsigned) = nullptr;
  Return (*mig_mode)(Device, unsigned*, unsigned*) = nullptr;
  Return (*mig_count)(Device, unsigned*) = nullptr;
  Return (*mig_handle)(Device, unsigned, Device*) = nullptr;
  Return (*gpu_instance)(Device, unsigned*) = nullptr;
  Return (*compute_instance)(Device, unsigned*) = nullptr;
  Return (*attributes)(Device, Attributes*) = nullptr;
  Return (*compute_processes)(Device, unsigned*, ProcessInfo*) = nullptr;
  Return (*graphics_processes)(Device, unsigned*, ProcessInfo*) = nullptr;
  Return (*link_state)(Device, unsigned, unsigned*) = nullptr;
  Return (*link_pci)(Device, unsigned, PciInfo*) = nullptr;
  Return (*link_peer)(Device, unsigned, int*) = nullptr;
  Return (*common_ancestor)(Device, Device, unsigned*) = nullptr;
  Return (*temperature)(Device, unsigned, unsigned*) = nullptr;
  Return (*power)(Device, unsigned*) = nullptr;
  Return (*power_limit)(Device, unsigned*) = nullptr;
  Return (*clock)(Device, unsigned, unsigned*) = nullptr;
  Return (*ecc_errors)(Device, unsigned, unsigned, unsigned long long*) = nullptr;
  Return (*events_create)(EventSet*) = nullptr;
  Return (*events_free)(EventSet) = nullptr;
  Return (*events_register)(Device, unsigned long long, EventSet) = nullptr;
  Return (*events_wait)(EventSet, EventData*, unsigned) = nullptr;
};

// The first of the names that the library has.
template <class Function>
void find(void* library, Function*& function, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (void* symbol = ::dlsym(library, name); symbol != nullptr) {
      function = reinterpret_cast<Function*>(symbol);
      return;
    }
}

Calls find_calls(void* library) {
  Calls calls;
  find(library, calls.init, {"nvmlInit_v2"});
  find(library, calls.shutdown, {"nvmlShutdown"});
  find(library, calls.error_string, {"nvmlErrorString"});
  find(library, calls.driver_version, {"nvmlSystemGetDriverVersion"});
  find(library, calls.cuda_version,
       {"nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"});
  find(library, calls.count, {"nvmlDeviceGetCount_v2"});
  find(library, calls.handle, {"nvmlDeviceGetHandleByIndex_v2"});
  find(library, calls.name, {"nvmlDeviceGetName"});
  find(library, calls.uuid, {"nvmlDeviceGetUUID"});
  find(library, calls.minor, {"nvmlDeviceGetMinorNumber"});
  find(library, calls.pci, {"nvmlDeviceGetPciInfo_v3"});
  find(library, calls.memory, {"nvmlDeviceGetMemoryInfo"});
  find(library, calls.memory_v2, {"nvmlDeviceGetMemoryInfo_v2"});
  find(library, calls.node_affinity, {"nvmlDeviceGetMemoryAffinity"});
  find(library, calls.mig_mode, {"nvmlDeviceGetMigMode"});
  find(library, calls.mig_count, {"nvmlDeviceGetMaxMigDeviceCount"});
  find(library, calls.mig_handle, {"nvmlDeviceGetMigDeviceHandleByIndex"});
  find(library, calls.gpu_instance, {"nvmlDeviceGetGpuInstanceId"});
  find(library, calls.compute_instance, {"nvmlDeviceGetComputeInstanceId"});
  find(library, calls.attributes, {"nvmlDeviceGetAttributes_v2"});
  find(library, calls.compute_processes, {"nvmlDeviceGetComputeRunningProcesses_v3",
                                          "nvmlDeviceGetComputeRunningProcesses_v2"});
  find(library, calls.graphics_processes, {"nvmlDeviceGetGraphicsRunningProcesses_v3",
                                           "nvmlDeviceGetGraphicsRunningProcesses_v2"});
  find(library, calls.link_state, {"nvmlDeviceGetNvLinkState"});
  find(library, calls.link_pci, {"nvmlDeviceGetNvLinkRemotePciInfo_v2"});
  find(library, calls.link_peer, {"nvmlDeviceGetNvLinkRemoteDeviceType"});
  find(library, calls.common_ancestor, {"nvmlDeviceGetTopologyCommonAncestor"});
  find(library, calls.temperature, {"nvmlDeviceGetTemperature"});
  find(library, calls.power, {"nvmlDeviceGetPowerUsage"});
  find(library, calls.power_limit, {"nvmlDeviceGetEnforcedPowerLimit"});
  find(library, calls.clock, {"nvmlDeviceGetClockInfo"});
  find(library, calls.ecc_errors, {"nvmlDeviceGetTotalEccErrors"});
  find(library, calls.events_create, {"nvmlEventSetCreate"});
  find(library, calls.events_free, {"nvmlEventSetFree"});
  find(library, calls.events_register, {"nvmlDeviceRegisterEvents"});
  find(library, calls.events_wait, {"nvmlEventSetWait_v2"});
  return calls;
}

// A call that this library may not have.
template <class... Parameters, class... Arguments>
Return call(Return (*function)(Parameters...), Arguments... arguments) {
  return function == nullptr ? kNotSupported : function(arguments...);
}

template <unsigned kBytes, class Function, class... Arguments>
std::string text_of(Function* function, Arguments... arguments) {
  std::array<char, kBytes> text{};
  if (call(function, arguments..., text.data(), kBytes) != kSuccess) return "";
  text.back() = '\0';
  return text.data();
}

std::string folder_of(void* library) {
  struct link_map* map = nullptr;
  if (::dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return "";
  const std::unique_ptr<char, decltype(&::free)> real(::realpath(map->l_name, nullptr), &::free);
  const std::string path = real ? real.get() : "";
  return path.substr(0, path.rfind('/'));
}

// Tests have no driver in the kernel.
std::string capabilities_folder() {
  const char* other = ::getenv("LOAM_NVIDIA_CAPABILITIES");
  return other != nullptr ? other : "/proc/driver/nvidia/capabilities";
}

bool is_same(const PciInfo& a, const PciInfo& b) {
  return a.domain == b.domain && a.bus == b.bus && a.device == b.device;
}

bool is_lost(Return code) { return code == kGpuIsLost || code == kResetRequired; }

}  // namespace

struct Nvml::Impl {
  void* library = nullptr;  // never closed: the driver's libraries do not bear it
  Calls calls;
  EventSet events = nullptr;

  std::string words(Return code) const {
    const char* text = calls.error_string == nullptr ? nullptr : calls.error_string(code);
    return text == nullptr ? "error " + std::to_string(code) : text;
  }
  std::vector<Device> handles() const;
  Gpu gpu(unsigned index, Device device) const;
  std::vector<MigSlice> slices(Device device, std::int32_t gpu_minor) const;
  std::uint64_t memory(Device device, bool used) const;
  std::vector<GpuLink> links(const std::vector<Device>& devices) const;
  Json state(Device device) const;
  Json processes(Device device, Return& code) const;
};

Nvml::Nvml(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Nvml::~Nvml() {
  if (impl_->events != nullptr) (void)call(impl_->calls.events_free, impl_->events);
  (void)call(impl_->calls.shutdown);
}

Result<std::unique_ptr<Nvml>> Nvml::load(const std::string& library) {
  auto impl = std::make_unique<Impl>();
  impl->library = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (impl->library == nullptr) return fail(ErrorCode::not_found, ::dlerror());
  impl->calls = find_calls(impl->library);
  if (impl->calls.init == nullptr || impl->calls.count == nullptr || impl->calls.handle == nullptr)
    return fail(ErrorCode::invalid, library + ": is no management library of NVIDIA's (no nvmlInit_v2)");
  if (const Return code = impl->calls.init(); code != kSuccess)
    return fail(ErrorCode::unavailable, "NVML: " + impl->words(code));
  return std::unique_ptr<Nvml>(new Nvml(std::move(impl)));
}

// ---- what there is ----

std::vector<Device> Nvml::Impl::handles() const {
  unsigned count = 0;
  std::vector<Device> devices;
  if (calls.count(&count) != kSuccess) return devices;
  for (unsigned i = 0; i < std::min(count, kGpusMax); ++i) {
    Device device = nullptr;
    devices.push_back(calls.handle(i, &device) == kSuccess ? device : nullptr);
  }
  return devices;
}

std::uint64_t Nvml::Impl::memory(Device device, bool used) const {
  MemoryV2 second{};
  second.version = kMemoryV2;
  if (call(calls.memory_v2, device, &second) == kSuccess) return used ? second.used : second.total;
  Memory first{};
  if (call(calls.memory, device, &first) == kSuccess) return used ? first.used : first.total;
  return 0;
}

std::vector<MigSlice> Nvml::Impl::slices(Device device, std::int32_t gpu_minor) const {
  std::vector<MigSlice> slices;
  unsigned count = 0;
  if (call(calls.mig_count, device, &count) != kSuccess) return slices;
  for (unsigned i = 0; i < std::min(count, kGpusMax); ++i) {
    Device slice = nullptr;
    if (call(calls.mig_handle, device, i, &slice) != kSuccess) continue;  // a place without one
    Attributes attributes{};
    const bool known = call(calls.attributes, slice, &attributes) == kSuccess;
    MigSlice one{.uuid = text_of<kUuidBytes>(calls.uuid, slice),
                 .model = text_of<kNameBytes>(calls.name, slice),
                 .memory_bytes = known ? attributes.memory_mib << 20 : memory(slice, false)};
    if (call(calls.gpu_instance, slice, &one.gpu_instance) != kSuccess ||
        call(calls.compute_instance, slice, &one.compute_instance) != kSuccess || one.uuid.empty())
      continue;
    const std::string folder = capabilities_folder();
    one.gpu_access = mig_access_minor(folder, gpu_minor, one.gpu_instance, {}).value_or(-1);
    one.compute_access =
        mig_access_minor(folder, gpu_minor, one.gpu_instance, one.compute_instance).value_or(-1);
    slices.push_back(std::move(one));
  }
  return slices;
}

Gpu Nvml::Impl::gpu(unsigned index, Device device) const {
  Gpu gpu{.index = index,
          .uuid = text_of<kUuidBytes>(calls.uuid, device),
          .model = text_of<kNameBytes>(calls.name, device),
          .memory_bytes = memory(device, false)};
  PciInfo pci{};
  if (call(calls.pci, device, &pci) == kSuccess)
    gpu.pci_bus_id = std::string(pci.bus_id, ::strnlen(pci.bus_id, sizeof pci.bus_id));
  unsigned minor = 0, now = 0, pending = 0;
  if (call(calls.minor, device, &minor) == kSuccess) gpu.minor = static_cast<std::int32_t>(minor);
  std::array<unsigned long, 16> nodes{};
  if (call(calls.node_affinity, device, static_cast<unsigned>(nodes.size()), nodes.data(),
           kNodeScope) == kSuccess)
    for (std::size_t i = 0; i < nodes.size() && gpu.numa < 0; ++i)
      if (nodes[i] != 0) gpu.numa = static_cast<std::int32_t>(i * 64) + std::countr_zero(nodes[i]);
  gpu.mig = call(calls.mig_mode, device, &now, &pending) == kSuccess && now == 1;
  if (gpu.mig) gpu.slices = slices(device, gpu.minor);
  return gpu;
}

// NVLinks go to another GPU, or to a switch that joins all that have links to it.
std::vector<GpuLink> Nvml::Impl::links(const std::vector<Device>& devices) const {
  const std::size_t count = devices.size();
  std::vector<PciInfo> places(count);
  for (std::size_t i = 0; i < count; ++i) (void)call(calls.pci, devices[i], &places[i]);
  std::vector<std::uint32_t> direct(count * count, 0), switched(count, 0);
  for (std::size_t i = 0; i < count; ++i)
    for (unsigned link = 0; link < kLinksMax; ++link) {
      unsigned active = 0;
      PciInfo remote{};
      if (call(calls.link_state, devices[i], link, &active) != kSuccess || active != 1 ||
          call(calls.link_pci, devices[i], link, &remote) != kSuccess)
        continue;
      std::size_t peer = 0;
      while (peer < count && !is_same(places[peer], remote)) ++peer;
      int kind = kPeerSwitch;  // what older drivers do not tell
      if (peer < count)
        ++direct[i * count + peer];
      else if (call(calls.link_peer, devices[i], link, &kind) != kSuccess || kind == kPeerSwitch)
        ++switched[i];
    }
  std::vector<GpuLink> links;
  for (std::size_t a = 0; a < count; ++a)
    for (std::size_t b = a + 1; b < count; ++b) {
      const std::uint32_t nvlinks = direct[a * count + b] + std::min(switched[a], switched[b]);
      std::uint32_t bandwidth = nvlinks * kNvlinkBandwidth;
      unsigned level = 0;
      if (nvlinks == 0 && call(calls.common_ancestor, devices[a], devices[b], &level) == kSuccess &&
          level <= kHostBridge)
        bandwidth = 40 - level;
      if (bandwidth > 0)
        links.push_back({.a = static_cast<std::uint32_t>(a),
                         .b = static_cast<std::uint32_t>(b),
                         .bandwidth = bandwidth});
    }
  return links;
}

Result<GpuInventory> Nvml::inventory() {
  const Calls& calls = impl_->calls;
  unsigned count = 0;
  if (const Return code = calls.count(&count); code != kSuccess)
    return fail(ErrorCode::unavailable, "NVML: " + impl_->words(code));
  GpuInventory inventory{.driver = text_of<kVersionBytes>(calls.driver_version),
                         .folder = folder_of(impl_->library)};
  if (int cuda = 0; call(calls.cuda_version, &cuda) == kSuccess)
    inventory.cuda = std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
  inventory.libraries = driver_libraries(inventory.folder, inventory.driver);
  std::vector<Device> found;
  const std::vector<Device> devices = impl_->handles();
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (devices[i] == nullptr) continue;
    Gpu gpu = impl_->gpu(static_cast<unsigned>(i), devices[i]);
    if (gpu.uuid.empty()) continue;
    found.push_back(devices[i]);
    inventory.gpus.push_back(std::move(gpu));
  }
  inventory.links = impl_->links(found);
  return inventory;
}

// ---- how they are ----

Json Nvml::Impl::processes(Device device, Return& code) const {
  Json list = Json::array();
  for (auto* function : {calls.compute_processes, calls.graphics_processes}) {
    std::array<ProcessInfo, kProcessesMax> found{};
    unsigned count = kProcessesMax;
    const Return said = call(function, device, &count, found.data());
    if (is_lost(said)) code = said;
    if (said != kSuccess) continue;
    for (unsigned i = 0; i < std::min(count, kProcessesMax); ++i) list.push(found[i].pid);
  }
  return list;
}

Json Nvml::Impl::state(Device device) const {
  Return lost = kSuccess;
  Json state = Json::object({{"processes", processes(device, lost)}});
  const auto note = [&](const char* key, Return code, auto value) {
    if (code == kSuccess) state.set(key, value);
    if (is_lost(code)) lost = code;
  };
  unsigned value = 0;
  const auto read = [&](const char* key, auto* function, auto... arguments) {
    const Return code = call(function, device, arguments..., &value);
    note(key, code, value);
  };
  read("temperature_c", calls.temperature, kGpuSensor);
  read("power_mw", calls.power);
  read("power_limit_mw", calls.power_limit);
  read("sm_clock_mhz", calls.clock, kSmClock);
  read("memory_clock_mhz", calls.clock, kMemoryClock);
  unsigned long long errors = 0;
  const Return ecc = call(calls.ecc_errors, device, kUncorrected, kSinceDriverLoad, &errors);
  note("ecc_uncorrected", ecc, errors);
  if (lost == kSuccess)
    state.set("memory_used_bytes", memory(device, true));
  else
    state.set("lost", words(lost));
  return state;
}

GpuStates Nvml::states() {
  GpuStates states = Json::object();
  for (const Device device : impl_->handles()) {
    if (device == nullptr) continue;
    const std::string uuid = text_of<kUuidBytes>(impl_->calls.uuid, device);
    if (uuid.empty()) continue;
    states.set(uuid, impl_->state(device));
    unsigned count = 0, now = 0, pending = 0;
    if (call(impl_->calls.mig_mode, device, &now, &pending) != kSuccess || now != 1 ||
        call(impl_->calls.mig_count, device, &count) != kSuccess)
      continue;
    for (unsigned i = 0; i < std::min(count, kGpusMax); ++i)
      if (Device slice = nullptr; call(impl_->calls.mig_handle, device, i, &slice) == kSuccess)
        states.set(text_of<kUuidBytes>(impl_->calls.uuid, slice), impl_->state(slice));
  }
  return states;
}

// ---- what befalls them ----

Result<std::optional<Nvml::Xid>> Nvml::wait_for_xid(std::chrono::milliseconds time) {
  const Calls& calls = impl_->calls;
  if (impl_->events == nullptr) {
    if (call(calls.events_create, &impl_->events) != kSuccess)
      return fail(ErrorCode::unavailable, "NVML: this driver tells no events");
    bool any = false;
    for (const Device device : impl_->handles())
      if (device != nullptr && call(calls.events_register, device, kXidEvent, impl_->events) == kSuccess)
        any = true;
    if (!any) return fail(ErrorCode::unavailable, "NVML: none of the GPUs tells of Xid errors");
  }
  EventData event{};
  const Return code = call(calls.events_wait, impl_->events, &event, static_cast<unsigned>(time.count()));
  if (code == kTimeout) return std::optional<Xid>();
  if (code != kSuccess) return fail(ErrorCode::unavailable, "NVML: " + impl_->words(code));
  if ((event.type & kXidEvent) == 0) return std::optional<Xid>();
  Xid xid{.uuid = text_of<kUuidBytes>(calls.uuid, event.device), .xid = event.data};
  if (event.gpu_instance != kNoInstance) xid.gpu_instance = event.gpu_instance;
  return std::optional(std::move(xid));
}

}  // namespace loam::devices
