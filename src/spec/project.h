// loam.yaml as types. Every value remembers its place, so that later findings (an env that cannot be
// built, a request that can never fit) name file, line and key too.
//
//   text ── yaml (events → Node with marks) ── read (keys → types, all problems at once) ──▶ Project
//
// Trust: the text is foreign bytes; limits below. $VAR is never expanded.
#pragma once

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

struct Resources {
  std::uint32_t cpu_milli = 1000;
  std::uint64_t memory_bytes = 1ull << 30;
  std::uint32_t gpus = 0;
  std::chrono::nanoseconds time{0};    // 0: no limit (a service has none)
  Place place;
};

enum class Network { host, none };
enum class Scratch { memory, disk };

struct Command {
  std::vector<std::string> argv;       // a string becomes {"sh", "-c", text}
  std::string text;                    // as written, for people and for staleness
};

struct Output {
  std::string model;                   // the model's name
  std::string path;                    // folder below /project
};

struct Step {
  std::string name;
  Command run;
  std::vector<std::string> after;
  Json params;                         // object; numbers, strings, booleans, null, lists, objects
  Resources resources;
  Network network = Network::host;
  std::vector<std::string> require;    // sandbox: {require: [...]}
  Scratch scratch = Scratch::memory;
  int retries = 0;
  std::vector<std::string> code;       // patterns; empty: all of the snapshot
  std::optional<Output> output;
  Env env;                             // the step's own, or the project's
  Place place;
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
  int replicas = 1;
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
};

// What the reader may ask of the project's folder. The CLI answers from the disk with the user's own
// rights; the node from the snapshot.
class Folder {
 public:
  virtual ~Folder() = default;
  virtual bool has_file(const std::string& relative) const = 0;
  virtual bool has_match(const std::string& pattern) const = 0;   // any file that matches the glob
  virtual Result<std::string> read(const std::string& relative) const = 0;  // a requirements file
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
  bool has_match(const std::string& pattern) const override;
  Result<std::string> read(const std::string& relative) const override;

 private:
  std::string path_;
};

// base/glob.h over a relative path: * and ? within a component, ** over components, [a-z].
bool matches_pattern(std::string_view pattern, std::string_view path);
// The folder before the pattern's first wildcard: "data" of "data/x-*.jsonl", "" for the top folder.
std::string pattern_folder(std::string_view pattern);

}  // namespace loam::spec
