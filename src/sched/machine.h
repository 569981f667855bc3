// What there is to divide: cores, memory by NUMA node, devices and how they are linked. Plain data;
// src/devices reads it from the host, `loam sim` makes it up.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace loam::sched {

struct Cpu {
  std::uint32_t id = 0;     // the kernel's number
  std::uint32_t core = 0;   // machine-wide; hardware threads of one core share it
  std::uint32_t numa = 0;   // index into Machine::memory_bytes
  std::uint32_t cache = 0;  // cores with the same last-level cache share it; machine-wide
};

enum class DeviceState { usable, drained, busy };

enum class SharingMode {
  exclusive,
  enforced,     // parts that the hardware or driver holds apart (MPS limits)
  time_sliced,  // parts in name only: given only to who asks for them, labelled "not enforced"
};
struct Sharing {
  SharingMode mode = SharingMode::exclusive;
  std::uint32_t parts = 1;
};

struct Device {
  std::string id;    // unique on the machine: "GPU-…", "MIG-…", "licence-3"
  std::string kind;  // "gpu", or any name that the node's configuration declares
  std::string model;
  std::uint64_t memory_bytes = 0;
  std::int32_t numa = -1;  // -1: nowhere in particular
  std::string parent;      // of a MIG slice: its GPU's id; the GPU itself is then not handed out
  DeviceState state = DeviceState::usable;
  std::string reason;  // why it is drained or busy
  Sharing sharing;
};

// Bandwidth between two GPUs in any one unit; pairs that are not listed have 0. Slices have their
// parents' links.
struct Link {
  std::string a, b;
  std::uint32_t bandwidth = 0;
};

struct Machine {
  std::vector<Cpu> cpus;
  std::uint64_t cpu_milli = 0;  // what all of them may use together; 0: all, less under a quota
  std::vector<std::uint64_t> memory_bytes;  // by NUMA node
  std::vector<Device> devices;
  std::vector<Link> links;

  std::uint64_t cpu_milli_total() const;
  std::uint64_t memory_total() const;
};

// `cpus` cores of one thread on one NUMA node, `gpus` equal GPUs: laptops, tests, simulations.
struct SimpleMachine {
  std::uint32_t cpus = 1;
  std::uint64_t memory_bytes = 0;
  std::uint32_t gpus = 0;
  std::uint64_t gpu_memory_bytes = 0;
};
Machine simple_machine(const SimpleMachine& facts);

}  // namespace loam::sched
