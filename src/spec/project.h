// loam.yaml as types. Every value remembers its place, so that later findings (an env that cannot be
// built, a request that can never fit) name file, line and key too.
//
//   text ── yaml (events → Node with marks) ── read (keys → types, all problems at once) ──▶ Project
//
// Trust: the text is foreign bytes; limits below. $VAR is never expanded.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::spec {

inline constexpr std::size_t kFileBytesMax = 1u << 20;
inline constexpr std::size_t kNodesMax = 20'000;   // after aliases are followed
inline constexpr std::size_t kDepthMax = 32;
inline constexpr std::int64_t kJobMemoryBytesMin = 16 << 20;
inline constexpr std::size_t kTopDataFilesMax = 256;  // of a source: a sandbox has each of them as a mount
inline constexpr int kRanksMax = 256;      // as api::kRanksMax
inline constexpr std::size_t kTasksMax = 1000;  // of a sweep

struct Place {
  int line = 0;    // 1-based; 0: nowhere in the file (a default)
  int column = 0;
};

struct Problem {
  Place place;
  std::string key;      // "train.resources.memroy"
  std::string message;  // "unknown key; did you mean 'memory'?"
};

struct Env {
  std::string base = "host";           // "host" or "debian:SUITE"
  std::vector<std::string> apt;
  std::vector<std::string> pip;        // requirement lines, also a requirements file's: "x>=1", "x==1 --hash=sha256:…"
  std::string pip_file;                // the file's name where `pip:` named one
  Place place;
  bool operator==(const Env& other) const { return base == other.base && apt == other.apt && pip == other.pip; }
};

enum class MountMode { ro, rw };
struct Mount {
  std::string from;
  std::string to;
  MountMode mode = MountMode::ro;
  Place place;
};

enum class Fingerprint { stat, sample, full };
struct DataSource {
  std::string name;
  std::string files;                   // a glob pattern
  Fingerprint fingerprint = Fingerprint::stat;
  Place place;
};

// So many devices of one kind.
struct DeviceRequest {
  std::string kind;                    // "gpu", or a name that the node's configuration declares
  std::uint32_t count = 1;
  std::string model;                   // a part of the model's name; "": any
  std::uint64_t memory_bytes = 0;      // of each, at least
  bool time_slice = false;             // of GPUs: a turn of each with others, which nothing enforces
  Place place;
};

struct Resources {
  std::uint32_t cpu_milli = 1000;
  bool pin = false;                    // whole cores that nobody else uses
  std::uint64_t memory_bytes = 1ull << 30;
  std::uint64_t huge_bytes = 0;        // in huge pages, besides `memory`
  std::vector<DeviceRequest> devices;
  std::chrono::nanoseconds time{0};    // 0: no limit (a service has none)
  Place place;
};

enum class Network { host, none };
enum class Scratch { memory, disk };

struct Command {
  std::vector<std::string> argv;       // a string becomes {"sh", "-c", text}
  std::string text;                    // as written, for people and for staleness
  bool shell = false;                  // it was a string
};

struct Output {
  std::string model;                   // the model's name
  std::string path;                    // folder below /project
};

// What outlives an attempt, so that the next one goes on where it ended.
struct Checkpoint {
  std::string path;                    // folder below /project
  std::string match = "checkpoint-*";  // names of completed checkpoints in it
  int signal = SIGUSR1;                // to those who catch it, before a preemption
  std::chrono::nanoseconds grace = std::chrono::seconds(30);
  int keep = 3;
  std::vector<std::string> resume;     // words for the command's end; {path} is the checkpoint's
};

// A failure that is tried again.
struct RetryOn {
  enum class Kind { node, out_of_memory, time, start, output, signal, exit };
  Kind kind = Kind::exit;
  std::optional<int> number;           // of the signal, or the exit status; none: any
  bool operator==(const RetryOn& other) const = default;
};

// One parameter of a sweep, with each value that it takes.
struct Swept {
  std::string name;
  std::vector<Json> values;
  bool operator==(const Swept&) const = default;
};

struct Step {
  std::string name;
  Command run;
  int ranks = 0;                       // processes of a gang; 0: one process that is no rank
  std::vector<std::string> after;
  Json params;                         // object; numbers, strings, booleans, null, lists, objects
  std::vector<Swept> sweep;            // in the file's order; empty: the step is no sweep
  bool shares_sandbox = false;         // tasks: {share: sandbox}
  Resources resources;
  Network network = Network::host;
  std::vector<std::string> require;    // sandbox: {require: [...]}
  Scratch scratch = Scratch::memory;
  int retries = 0;
  std::vector<RetryOn> retry_on;       // empty: every failure
  std::optional<Checkpoint> checkpoint;
  bool preemptible = false;            // may be ended for others and queued again
  int priority = 0;                    // higher goes first
  std::vector<std::string> code;       // patterns; empty: all of the snapshot
  std::optional<Output> output;
  Env env;                             // the step's own, or the project's
  Place place;
};

// How many processes answer: a fixed number where both are the same.
struct Replicas {
  int min = 1;
  int max = 1;
};

struct Service {
  std::string name;
  std::string model;                   // "digits"
  std::optional<int> version;          // digits@3
  std::string handler_file;            // serve.py
  std::string handler_function;        // predict
  Resources resources;
  Network network = Network::none;     // a replica speaks through its channel
  std::vector<std::string> require;
  std::uint32_t batch_max = 32;
  std::chrono::nanoseconds batch_delay_max{5'000'000};
  Replicas replicas;
  int priority = 0;                    // of each replica's claim
  Env env;
  Place place;
};

struct Keep {
  int runs = 100;
  int versions = 20;
  std::chrono::nanoseconds attempts = std::chrono::hours(24 * 7);
};

struct Project {
  std::string name;
  Env env;
  std::vector<Mount> mounts;
  std::map<std::string, std::string> vars;
  std::vector<std::string> secrets;
  Keep keep;
  std::vector<DataSource> data;
  std::vector<Step> steps;             // in an order in which they can run
  std::vector<Service> services;
  std::string endpoint = "127.0.0.1:8000";
  Place endpoint_place;
  std::string account;                 // whose shares and quota its jobs count against; "": the user's own
  Place account_place;
};

// What each task of a sweep has for parameters of its own, in the order of their numbers (1, 2, …):
// every combination, the last parameter changing fastest.
std::vector<Json> task_params(const std::vector<Swept>& sweep);
// "train.3"
std::string task_name(const std::string& step, std::size_t number);

// What the reader may ask of the project's folder. The CLI answers from the disk with the user's own
// rights; the node from the snapshot.
class Folder {
 public:
  virtual ~Folder() = default;
  virtual bool has_file(const std::string& relative) const = 0;
  // How many files match the glob; counting ends at `count_max`.
  virtual std::size_t matches(const std::string& pattern, std::size_t count_max) const = 0;
  bool has_match(const std::string& pattern) const { return matches(pattern, 1) > 0; }
  // A requirements file or a handler's.
  virtual Result<std::string> read(const std::string& relative) const = 0;
  // Names of the files beside this one, for a suggestion; none where nobody knows.
  virtual std::vector<std::string> files_beside(const std::string& /*relative*/) const { return {}; }
};

struct ReadResult {
  std::optional<Project> project;      // only where there are no problems
  std::vector<Problem> problems;       // in file order
};

// `folder` may be null: then nothing about files is checked and a requirements file stays unread.
// `known_models`: names (of imported models) that a service may use besides those that steps make; null: any.
ReadResult read_project(std::string_view text, const Folder* folder,
                        const std::vector<std::string>* known_models = nullptr);

// "loam.yaml:12:5: train.resources.memroy: unknown key; did you mean 'memory'?", a line each.
std::string format_problems(std::string_view file, const std::vector<Problem>& problems);

// The JSON Schema of the file (draft 2020-12), for editors.
Json json_schema();

// A Folder over a directory of the caller's own.
class DiskFolder : public Folder {
 public:
  explicit DiskFolder(std::string path) : path_(std::move(path)) {}
  bool has_file(const std::string& relative) const override;
  std::size_t matches(const std::string& pattern, std::size_t count_max) const override;
  Result<std::string> read(const std::string& relative) const override;
  std::vector<std::string> files_beside(const std::string& relative) const override;

 private:
  std::string path_;
};

// base/glob.h over a relative path: * and ? within a component, ** over components, [a-z].
bool matches_pattern(std::string_view pattern, std::string_view path);
// The folder before the pattern's first wildcard: "data" of "data/x-*.jsonl", "" for the top folder.
std::string pattern_folder(std::string_view pattern);

}  // namespace loam::spec
