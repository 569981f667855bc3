// Records: immutable JSON documents in the store that point at each other by digest. Each has
// "record": its kind and "version": 1. Format: docs/formats/records.md.
//
//   replica ─▶ model version ─▶ run ─▶ env, code, data, host
//          └─▶ env, code, host
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/sha256.h"
#include "store/store.h"

namespace loam::trace {

// Builders check nothing; they fix the shape. All digests as hex, times in ms since 1970, fractions
// as strings. A record that another does not have (an imported model's run) is null.
Json host_record(const Json& facts, const Json& guards);
Json env_record(const Json& lock_section, const std::string& tree);
Json code_record(const std::string& tree, std::uint64_t files, std::uint64_t size_bytes);
Json data_record(const std::string& name, const Json& fingerprint);

struct RunFacts {
  std::int64_t run = 0;
  std::string step;
  std::string project;
  std::string user;
  std::string command;
  Json params;
  Json vars;
  std::vector<std::string> secrets;  // names only
  Json metrics;                      // last value and count of each, from loam.log
  Json resources;                    // asked for, and used (cpu_ns, memory_peak)
  Json missing_guards;
  std::string outcome;
  int attempt = 1;                    // of the step in this run
  std::string checkpoint;             // its name, where the attempt resumed from one
  std::string resumes;                // then: run record of the attempt before
  std::int64_t started_ms = 0;
  std::int64_t ended_ms = 0;
  std::string env, code, host;        // record digests
  std::vector<std::string> data;      // record digests
  std::vector<std::string> upstream;  // model records of the steps in `after`
};
Json run_record(const RunFacts& facts);

struct ModelFacts {
  std::string model;
  int version = 0;
  std::string tree;
  std::uint64_t size_bytes = 0;
  std::string run;            // record digest, "" where imported
  std::string imported_from;  // path as given, "" where trained
  std::int64_t created_ms = 0;
};
Json model_record(const ModelFacts& facts);

struct ReplicaFacts {
  std::string service;
  std::string attempt;
  std::string handler;
  std::string model, env, code, host;  // record digests
  Json missing_guards;
  std::int64_t started_ms = 0;
};
Json replica_record(const ReplicaFacts& facts);

// Replaces doubles by their shortest text, as the canonical form wants.
Json with_fractions_as_strings(const Json& value);

struct Layer {
  std::string kind;    // "replica", "model", "run", "env", "code", "data", "host"
  std::string digest;  // hex
  Json record;         // null where it is no longer in the store
};
// Follows the record's pointers, top-down, each record once: replica, model, run (and the models
// that it used, and their runs), data…, code, env, host. Only a missing top is an error.
Result<std::vector<Layer>> follow(const store::Store& store, const Digest& top);

}  // namespace loam::trace
