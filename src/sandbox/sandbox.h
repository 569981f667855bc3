// A job's sandbox, from a plain description to a running process (docs/sandbox.md).
//
//   start_sandbox: open what only this process may open ─ clone3(new namespaces, into the cgroup)
//   ─▶ pid 1
//     pid 1: join v1 groups ─ mounts ─ pivot_root ─ drop ids and capabilities ─ seccomp ─ wait for
//     "go"
//            └─ fork ─▶ the user's process: secrets, streams, exec
//
// Threads: the caller must have only one. Trust: argv, environment, paths of binds and everything
// in the tree are the user's; they are used with the user's ids only.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/cgroup.h"
#include "sandbox/devices.h"
#include "sandbox/identity.h"
#include "sandbox/pid_namespace.h"

namespace loam::sandbox {

struct Bind {
  std::string from;
  std::string to;
  bool writable = false;
  bool root_is_user = false;  // idmapped: files of root show as the user's
  bool opened_as_user = false;
};

struct File {
  std::string path;
  std::string content;
};

// One process of a gang: what it has besides the Spec's.
struct Rank {
  std::vector<std::pair<std::string, std::string>> environment;  // goes before the Spec's
  std::vector<std::uint32_t> cpus;                               // its affinity; empty: all
};

struct Spec {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<Rank> ranks;   // a gang: argv is started once for each; without terminal and input
  bool lane = false;         // nothing is started by `go`: Control::task starts argv again and again
  std::string secrets_file;  // JSON object; read by the user's process alone, after the fork
  std::string directory = "/";
  Ids ids;
  std::string hostname = "loam";
  std::string root_tree;  // "" : the host's files
  std::vector<std::string> masks;
  std::string scratch_folder;  // "" : the root's changes go to a tmpfs
  std::string project_tree;
  bool project_root_is_user = false;
  std::string project_upper;
  std::vector<Bind> binds;
  std::vector<File> files;
  bool own_network = false;
  CgroupPaths cgroup;
  std::vector<DeviceNode> devices;  // the job's alone to open; others are not even there
  CpuSet cpu_set;
  std::uint64_t huge_page_bytes = 0;  // /dev/hugepages with pages of this size; 0: none
  std::uint64_t huge_bytes = 0;
  std::uint64_t memory_bytes = 0;
  std::uint32_t cpu_milli = 0;
  std::uint32_t processes_max = 0;
  std::uint64_t shm_bytes = 0;
  bool terminal = false;
  bool standard_input = false;  // and standard error apart from standard output
};

struct Missing {
  std::string guard;
  std::string reason;
};

struct Sandbox {
  Child init;               // ends after every other process of the sandbox
  Fd control;               // SOCK_SEQPACKET to init, messages of sandbox/init.h
  // Pipe: a kStartedMark of each process and the end: each exec succeeded. Else also texts, each
  // with a zero byte at its end: why one did not.
  Fd report;
  Fd input, output, error;  // pipes without a terminal; error only with standard_input
  std::vector<Fd> rank_outputs;  // of a gang, instead
  PidNamespace pid_namespace;    // only without a v2 cgroup: what is fenced instead
  std::vector<Missing> missing;  // guards that are not in force
};
inline constexpr char kStartedMark = '\1';

// What a process that starts many sandboxes makes once; -1: made for this one. Borrowed.
struct Shared {
  int device_program = -1;  // load_device_program()
  int swapped_ids = -1;     // a user namespace that swaps Spec::ids with root's
};

// The sandbox is made and its init waits for Control::go. Failures inside come over `report`.
Result<Sandbox> start_sandbox(const Spec& spec, const Shared& shared = {});

// /dev/stdout is opened anew by some programs: the pipes must be the user's.
Result<Pipe> make_user_pipe(const Ids& ids);

// What a person can do about a missing guard ("" for one that is not known).
std::string mend_for(const std::string& guard);

}  // namespace loam::sandbox
