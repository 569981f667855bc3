// The contract between node and shim: what an attempt is to be (AttemptPlan), what became of it
// (ExitRecord), and the messages on the shim's socket.
//
//   node ── attempts/ID/plan.json ──▶ loam-shim ── attempts/ID/exit.json ──▶ node
//   node ◀── attempts/ID/shim.sock (SOCK_SEQPACKET, one JSON document per packet) ──▶ loam-shim
//
// Trust: both ends are Loam's. The plan is written by the node from checked input; secrets are never
// in it, only the path of a file that holds them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::api {

inline constexpr int kAttemptPlanVersion = 1;
inline constexpr std::size_t kShimPacketBytesMax = 64 * 1024;

enum class Network { host, none };
enum class RootKind { host, tree };      // base: host, or an environment's tree
enum class Scratch { memory, disk };     // where the environment overlay's upper lies
// Whose ids a bound folder shows. `as_is`: the files' own. `root_is_user`: an idmapped mount that shows
// files of root as the job's user (sandbox.md); where the kernel cannot, the node gives a copy instead.
enum class Owner { as_is, root_is_user };

struct BindPlan {
  std::string from;            // absolute, on the host
  std::string to;              // absolute, inside
  bool writable = false;
  Owner owner = Owner::as_is;
  bool opened_as_user = false;  // a path of the user: opened by a child with the job's ids, never as root
};

struct GeneratedFile {
  std::string path;     // absolute, inside: /etc/passwd, /etc/hostname, ...
  std::string content;
};

struct CgroupPlan {
  std::string v2;                                            // folder made by the node, "" where there is none
  std::vector<std::pair<std::string, std::string>> v1;       // controller → folder made by the node
};

struct AttemptPlan {
  std::string attempt;                 // "42"
  std::string folder;                  // STATE/attempts/42, 0700, holds lock plan.json shim.sock exit.json output/
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;  // complete; nothing is inherited
  std::string secrets_file;            // JSON object NAME → value, "" for none; read at start
  std::string directory = "/project";

  std::uint32_t uid = 65534;
  std::uint32_t gid = 65534;
  std::vector<std::uint32_t> groups;
  std::string hostname = "loam";

  RootKind root = RootKind::host;
  std::string root_tree;               // the environment's tree
  std::vector<std::string> root_masks; // base: host: paths hidden (Loam's state and store)
  Scratch scratch = Scratch::memory;
  std::string scratch_folder;          // scratch: disk — upper and work, owned by the user

  std::string project_tree;            // snapshot; "" : no /project
  Owner project_owner = Owner::as_is;
  std::string project_upper;           // ATTEMPT/project: upper and work below it, kept with the attempt
  std::vector<BindPlan> binds;         // in this order; a missing target is made
  std::vector<GeneratedFile> files;
  Network network = Network::host;

  CgroupPlan cgroup;
  std::uint64_t memory_bytes = 0;      // 0: no limit
  std::uint32_t cpu_milli = 0;         // 1000 = one CPU; 0: no limit
  std::uint32_t processes_max = 4096;
  std::uint64_t shm_bytes = 64u << 20;
  std::int64_t time_limit_ms = 0;      // 0: none. TERM, grace_ms, KILL, outcome timed_out
  std::int64_t grace_ms = 10'000;
  std::uint64_t output_bytes_max = 64u << 20;  // kept output of one attempt, over two rotated files
  bool terminal = false;               // run -t: a pty; the shim waits for an attached client (30 s at most)
  bool standard_input = false;         // run -i: stdin comes from the attached client
  std::vector<std::string> require;    // guards that must hold, else the attempt fails to start
};

Json to_json(const AttemptPlan& plan);
Result<AttemptPlan> attempt_plan_from(const Json& document);

// How an attempt ended. `lost` is the node's word for an attempt without an exit record.
enum class Outcome { exited, signaled, timed_out, cancelled, out_of_memory, failed_to_start, unkillable, lost };
std::string_view outcome_name(Outcome outcome);
Result<Outcome> outcome_from(std::string_view name);

struct MissingGuard {
  std::string guard;   // "memory", "processes", "cpu", "network", "idmap", "devices", ...
  std::string reason;
};

Json to_json(const std::vector<MissingGuard>& missing);   // the "missing" of a running packet
Result<std::vector<MissingGuard>> missing_guards_from(const Json& list);

struct ExitRecord {
  std::string attempt;
  Outcome outcome = Outcome::exited;
  int code = 0;                     // exit status where exited
  int signal = 0;                   // where signaled, timed_out, cancelled
  std::string error;                // failed_to_start: what, in a person's words
  std::int64_t started_ms = 0;      // wall clock
  std::int64_t ended_ms = 0;
  std::uint64_t memory_peak_bytes = 0;   // 0: unknown
  std::uint64_t memory_limit_bytes = 0;
  std::uint64_t cpu_ns = 0;
  std::vector<MissingGuard> missing;
};

Json to_json(const ExitRecord& record);
Result<ExitRecord> exit_record_from(const Json& document);

// Packets node → shim: {"type":"stop","outcome":"cancelled"|"timed_out"}  TERM, grace, KILL
//                      {"type":"kill"}                                    KILL at once
//                      {"type":"signal","number":10}
//                      {"type":"attach"} with one descriptor (SCM_RIGHTS): a client's stream, spoken in
//                                        attach frames (api/attach.h) from then on
//                      {"type":"committed"}   the exit is in the database; the shim may go
// Packets shim → node: {"type":"running","started_ms":…,"missing":[…]}    also to each new connection
//                      {"type":"exited","record":{ExitRecord}}           likewise, once it has ended

}  // namespace loam::api
