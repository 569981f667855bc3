// The part of NVIDIA's management library that Loam calls: types and numbers of its binary interface.
// Sources: the NVML API reference and nvml.h (API version 12, drivers 450 to 580); later drivers keep
// the old entry points, which is why versioned names are called and an older one is the fall-back.
#pragma once

#include <cstddef>

namespace loam::devices::nvml {

using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr Return kNotSupported = 3;
inline constexpr Return kInsufficientSize = 7;
inline constexpr Return kDriverNotLoaded = 9;
inline constexpr Return kTimeout = 10;
inline constexpr Return kGpuIsLost = 15;
inline constexpr Return kResetRequired = 16;

struct DeviceHandle;
using Device = DeviceHandle*;
struct EventSetHandle;
using EventSet = EventSetHandle*;

inline constexpr unsigned kNameBytes = 96;  // NVML_DEVICE_NAME_V2_BUFFER_SIZE
inline constexpr unsigned kUuidBytes = 96;  // NVML_DEVICE_UUID_V2_BUFFER_SIZE
inline constexpr unsigned kVersionBytes = 80;
inline constexpr unsigned kLinksMax = 18;  // NVML_NVLINK_MAX_LINKS
inline constexpr unsigned kNoInstance = 0xffffffff;

struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device;
  unsigned device_id, subsystem_id;
  char bus_id[32];
};
static_assert(sizeof(PciInfo) == 68 && offsetof(PciInfo, bus_id) == 36);

struct Memory {
  unsigned long long total, free, used;
};
static_assert(sizeof(Memory) == 24);

struct MemoryV2 {
  unsigned version;  // kMemoryV2 on the way in
  unsigned long long total, reserved, free, used;
};
static_assert(sizeof(MemoryV2) == 40);
inline constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | (2u << 24);  // NVML_STRUCT_VERSION(Memory, 2)

// Of the entry points _v2 and _v3.
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_memory;  // all ones: not known
  unsigned gpu_instance, compute_instance;
};
static_assert(sizeof(ProcessInfo) == 24 && offsetof(ProcessInfo, used_memory) == 8);

struct Attributes {  // of a MIG device
  unsigned multiprocessors, copy_engines, decoders, encoders, jpeg_engines, ofa_engines;
  unsigned gpu_slices, compute_slices;
  unsigned long long memory_mib;
};
static_assert(sizeof(Attributes) == 40);

struct EventData {
  Device device;
  unsigned long long type, data;  // data: the Xid
  unsigned gpu_instance, compute_instance;
};
static_assert(sizeof(EventData) == 32);
inline constexpr unsigned long long kXidEvent = 0x8;  // nvmlEventTypeXidCriticalError

enum LinkPeer { kPeerGpu = 0, kPeerSwitch = 2 };                      // nvmlIntNvLinkDeviceType_t
enum Level { kSingleSwitch = 10, kSwitches = 20, kHostBridge = 30 };  // nvmlGpuTopologyLevel_t
inline constexpr unsigned kNodeScope = 0;       // NVML_AFFINITY_SCOPE_NODE
inline constexpr unsigned kGpuSensor = 0;       // NVML_TEMPERATURE_GPU
inline constexpr unsigned kSmClock = 1;         // NVML_CLOCK_SM
inline constexpr unsigned kMemoryClock = 2;     // NVML_CLOCK_MEM
inline constexpr unsigned kUncorrected = 1;     // NVML_MEMORY_ERROR_TYPE_UNCORRECTED
inline constexpr unsigned kSinceDriverLoad = 0; // NVML_VOLATILE_ECC

}  // namespace loam::devices::nvml
