// The node's own configuration file as types (docs/node-configuration.md), read with the machinery
// and the errors of loam.yaml.
//
//   text ── yaml ── read (keys → types, all problems at once) ──▶ NodeConfig
//
// Trust: the text is foreign bytes, with loam.yaml's limits; who may write the file is the node's
// question.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/project.h"

namespace loam::spec {

// What jobs never get of the machine.
struct Reserve {
  std::uint32_t cpu_milli = 0;
  std::uint64_t memory_bytes = 0;
  Place place;
};

// A kind of device that this machine has by its administrator's word.
struct DeclaredDevice {
  std::string name;
  std::vector<std::vector<std::string>> units;  // of each unit its device nodes; none: only counted
  std::vector<std::string> common;              // nodes that come with any unit
  std::string model;
  std::uint64_t memory_bytes = 0;
  Place place;
};

// NVIDIA GPUs are found; this is what finding them cannot know.
struct GpuSettings {
  std::string library;              // the driver's libnvidia-ml.so.1; "": where the loader finds it
  std::vector<std::string> cdi{"/etc/cdi", "/var/run/cdi"};  // folders of CDI files; the specification's
  std::vector<std::string> ignore;  // programs whose use of a GPU does not make it busy
  std::uint32_t time_slices = 1;    // how many jobs at most share a GPU where they ask to; 1: none does
  Place place;
};

// What may be held at one time; what is left out has no limit.
struct QuotaLimits {
  std::optional<std::int64_t> cpu_milli, memory_bytes, running, queued;
  std::optional<std::int64_t> store_bytes;      // kept, of a user
  std::map<std::string, std::int64_t> devices;  // by kind, "gpu" among them
};

struct Account {
  std::string name;
  std::int64_t shares = 1;
  std::optional<std::vector<std::string>> members;  // none: everybody may use it
  std::optional<QuotaLimits> quota;
  Place place;
};

struct User {
  std::string name;
  std::int64_t shares = 1;
  std::string account;  // that his jobs use where they name none; "": default
  std::optional<QuotaLimits> quota;
  Place place;
};

// Who is next. Weights: points an hour, which usage is counted in.
struct QueueRules {
  std::chrono::nanoseconds half_life = std::chrono::hours(7 * 24);
  std::chrono::nanoseconds foresight = std::chrono::hours(1);
  std::chrono::nanoseconds fill_limit = std::chrono::hours(1);
  std::int64_t reservations = 16;
  bool fair_share = true, backfill = true, preemption = true;
  double cpu_points = 1, memory_gib_points = 0.125, gpu_points = 16;
  std::map<std::string, double> device_points;
  std::optional<QuotaLimits> user_quota;  // of users who have none of their own
  Place place;
};

inline constexpr std::string_view kDefaultAccount = "default";  // is there whether named or not

// Who may act on everybody's jobs, besides root.
struct Admins {
  std::vector<std::string> groups, users;
  Place place;
};

// Where the node answers besides its Unix socket; TLS where there is a certificate.
struct Listen {
  std::string address;  // as written, "0.0.0.0:8443"
  std::string host;
  std::uint16_t port = 0;
  std::string certificate, key;  // files
  Place place;
};

struct NodeConfig {
  Reserve reserve;
  std::vector<DeclaredDevice> devices;
  GpuSettings gpus;
  QueueRules queue;
  std::vector<Account> accounts;
  std::vector<User> users;
  Admins admins;
  std::optional<Listen> listen;
};
Json to_json(const NodeConfig& config);  // as `loam node status` shows it; every key, defaults too

struct NodeConfigResult {
  std::optional<NodeConfig> config;  // only where there are no problems
  std::vector<Problem> problems;     // in file order
};
NodeConfigResult read_node_config(std::string_view text);

}  // namespace loam::spec
