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

inline constexpr int kAttemptPlanVersion = 2;
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

// A device node of the host that the job is given, at the same path.
struct DevicePlan {
  std::string path;            // below /dev
  bool block = false;
  std::uint32_t major_number = 0;
  std::uint32_t minor_number = 0;
};

// Held by the shim before anything starts, between all nodes of the machine (sandbox/device_lock.h).
struct DeviceLockPlan {
  std::string device;               // its id, for people
  std::vector<std::string> names;
  std::uint32_t count = 1;          // how many of the names
  bool shared = false;
};

// One process of a gang, which has this besides what all of the attempt's have.
struct RankPlan {
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::uint32_t> cpus;  // pinned: of the attempt's, those of this rank
};
inline constexpr std::size_t kRanksMax = 256;  // two descriptors of the shim each while they start

struct MissingGuard {
  std::string guard;   // "memory", "processes", "cpu", "network", "idmap", "devices", ...
  std::string reason;
};

// An attempt that is a lane: its sandbox has no process of its own, it takes the tasks of a sweep one
// after another. What a task leaves in these folders of the host goes to the task's own.
struct LanePlan {
  std::string run_folder;              // what is bound at /loam/run
  std::string output_folder;           // what is bound at the step's output, "" where it has none
};

struct AttemptPlan {
  std::string attempt;                 // "42"
  std::string folder;                  // STATE/attempts/42, 0700, holds lock plan.json shim.sock exit.json output/
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;  // complete; nothing is inherited
  std::optional<LanePlan> lane;        // limits are of each task; argv is every task's
  std::vector<RankPlan> ranks;         // a gang: one process each, limits are of all; empty: one process, no rank
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
  std::vector<DevicePlan> devices;
  std::vector<DeviceLockPlan> device_locks;
  std::string device_lock_folder;      // where there are locks
  std::string device_lock_owner;       // "alice's node (STATE)": who the file says holds them
  std::vector<std::uint32_t> cpus;     // pinned: exactly these; else what the pinned ones leave; empty: all
  std::vector<std::uint32_t> memory_nodes;
  bool pinned = false;
  std::uint64_t huge_page_bytes = 0;   // the size of a page; 0: none
  std::uint64_t huge_bytes = 0;
  std::uint64_t memory_bytes = 0;      // 0: no limit
  std::uint32_t cpu_milli = 0;         // 1000 = one CPU; 0: no limit
  std::uint32_t processes_max = 4096;
  std::uint64_t shm_bytes = 64u << 20;
  std::int64_t time_limit_ms = 0;      // 0: none. TERM, grace_ms, KILL, outcome timed_out
  std::int64_t idle_limit_ms = 0;      // 0: none. Nothing typed or said on the terminal for so long: as time_limit_ms
  std::int64_t grace_ms = 10'000;
  int checkpoint_signal = 0;           // before a preemption, to the processes that catch it; 0: TERM to all
  std::int64_t checkpoint_grace_ms = 0;  // of a preemption, where there is a checkpoint_signal
  std::uint64_t output_bytes_max = 64u << 20;  // kept output of one attempt, over two rotated files
  bool terminal = false;               // run -t: a pty; the shim waits for an attached client (30 s at most)
  bool standard_input = false;         // run -i: stdin comes from the attached client
  std::vector<std::string> require;    // guards that must hold, else the attempt fails to start
  std::vector<MissingGuard> missing;   // known before the start; the shim adds what it finds
};

Json to_json(const AttemptPlan& plan);
Result<AttemptPlan> attempt_plan_from(const Json& document);

// How an attempt ended. `lost` is the node's word for an attempt without an exit record.
// `device_busy`: a device was held elsewhere, so nothing was started; it costs the job nothing.
// `disk_full`: killed, for it had written most to a disk that ran full.
// `preempted`: it was told to make room and did not end with status 0, which is a success whenever it comes.
enum class Outcome { exited, signaled, timed_out, cancelled, out_of_memory, failed_to_start, unkillable, lost,
                     device_busy, preempted, disk_full };
std::string_view outcome_name(Outcome outcome);
Result<Outcome> outcome_from(std::string_view name);

Json to_json(const std::vector<MissingGuard>& missing);   // the "missing" of a running packet
Result<std::vector<MissingGuard>> missing_guards_from(const Json& list);

struct ExitRecord {
  std::string attempt;
  Outcome outcome = Outcome::exited;
  int code = 0;                     // exit status where exited
  int signal = 0;                   // where signaled, timed_out, cancelled, preempted
  std::string error;                // failed_to_start, device_busy, disk_full: what, in a person's words
  std::string device;               // device_busy: which one
  int rank = -1;                    // of a gang: who failed first; code and signal are its own
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
//                      {"type":"stop","outcome":"preempted"}              the checkpoint's signal to those who
//                                        catch it, else TERM to all; grace, KILL. A cancellation overrides it
//                      {"type":"stop","outcome":"disk_full","error":"…"}  KILL at once; overrides a preemption
//                      {"type":"kill"}                                    KILL at once
//                      {"type":"signal","number":10}
//                      {"type":"attach"} with one descriptor (SCM_RIGHTS): a client's stream, spoken in
//                                        attach frames (api/attach.h) from then on
//                      {"type":"join","argv":[…],"environment":{…},"terminal":true}, or
//                      {"type":"join","port":6006}, with one descriptor:
//                                        one more process in the sandbox for this client, in attach frames
//                      {"type":"committed"}   the exit is in the database; the shim may go
// To a lane's:         {"type":"tasks","tasks":[{"attempt":"9","environment":{…},"work":"/…/12-1"}]}
//                      {"type":"give_back"}   what has not begun is no longer the shim's; it answers "holds"
//                      {"type":"stop","attempt":"9","outcome":"cancelled"}   that task, if it runs
//                      {"type":"close"}       ends when nothing is left to do
// From a lane's:       {"type":"tasks","begun":["9"],"exits":[{ExitRecord}]}   the exits are on the disk
//                      {"type":"holds","attempts":["9"]}                       what has begun and not ended
// Packets shim → node: {"type":"running","started_ms":…,"missing":[…]}    also to each new connection
//                      {"type":"exited","record":{ExitRecord}}           likewise, once it has ended

}  // namespace loam::api
