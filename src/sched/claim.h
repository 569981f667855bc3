// What is asked for, and what is given.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace loam::sched {

using ClaimId = std::uint64_t;  // the node's attempt-independent id of a job or replica
using TaskId = std::uint32_t;   // 0, 1, … of an array; a claim that is none has task 0 alone
using Time = std::int64_t;      // milliseconds, of one clock that the caller keeps

enum class Share {
  whole,       // devices of its own; MIG slices too where model or memory ask for no more than one,
               // or where the machine has nothing else of the kind
  part,        // an enforced part of a shared device
  time_slice,  // a part that nothing enforces
};

struct DeviceRequest {
  std::string kind = "gpu";
  std::uint32_t count = 1;
  std::string model;                   // "": any; else part of the model's name, in any case
  std::uint64_t memory_bytes_min = 0;  // of each
  Share share = Share::whole;
  std::uint32_t share_permille = 0;  // part, time_slice: how much of the device; 0: one part
};

struct Request {
  std::uint64_t cpu_milli = 0;
  std::uint64_t memory_bytes = 0;
  bool pin = false;  // whole cores that nobody else uses
  std::vector<DeviceRequest> devices;
};

enum class ClaimKind { job, service, interactive };

struct Claim {
  ClaimId id = 0;
  std::string user;
  std::string account;
  std::int32_t priority = 0;  // higher goes first
  ClaimKind kind = ClaimKind::job;
  bool preemptible = false;         // only jobs are ever preempted
  std::int64_t time_limit_ms = 0;   // of a task; 0: nobody knows when it ends
  std::int64_t grace_ms = 0;        // between the word to a victim and its end
  std::uint32_t ranks = 1;          // a gang: all or none
  Request rank;                     // of each rank
  std::uint32_t tasks = 1;          // an array: that many, each with all ranks
  std::uint32_t tasks_at_once = 0;  // 0: as many as fit
  std::vector<TaskId> tasks_done;   // of an array that a restarted caller brings back
  bool held = false;                // waits until unheld
};

struct DevicePart {
  std::string device;  // its id
  std::uint32_t parts = 1;
  std::uint32_t of = 1;
  bool operator==(const DevicePart&) const = default;
};

struct RankPlacement {
  std::vector<std::uint32_t> cpus;        // where pinned; else the rank runs on shared_cpus()
  std::vector<std::uint32_t> numa_nodes;  // pinned: where its memory should lie; else empty
  std::vector<DevicePart> devices;
  bool operator==(const RankPlacement&) const = default;
};

struct Placement {
  std::vector<RankPlacement> ranks;
  bool operator==(const Placement&) const = default;
};

}  // namespace loam::sched
