// The readers of the file's parts, one small file each. All note problems in the value's Reader and
// return what could be read.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "spec/reader.h"

namespace loam::spec {

// A name in the file that must be found elsewhere in it.
struct Reference {
  std::string name;
  Place place;
  std::string key;
};

// A project while it is read: with what check_references needs.
struct Draft {
  Project project;
  std::vector<std::vector<Reference>> afters;     // of project.steps, by index
  std::vector<std::string> service_keys;          // of project.services: "serve" or "services.NAME"
  std::vector<std::optional<Reference>> models;   // of project.services, by index
  std::vector<std::optional<Reference>> outputs;  // of project.steps: place of the output's path
  std::vector<std::optional<Reference>> checkpoints;  // likewise
};

Env read_env(const Value& value);
// One requirement as PEP 508 writes it, without URLs and options: "" or what is wrong.
std::string requirement_problem(std::string_view line);
// A requirements file's lines: comments and continuations resolved, hashes kept. Notes problems at
// `value`, which named the file.
std::vector<std::string> read_requirements(const Value& value, const std::string& file,
                                           std::string_view text);

std::vector<Mount> read_mounts(const Value& value);
std::map<std::string, std::string> read_vars(const Value& value);
std::vector<std::string> read_secrets(const Value& value);
Keep read_keep(const Value& value);
std::vector<DataSource> read_data(const Value& value);
std::optional<std::string> read_endpoint(const Value& value);

enum class Claimant { step, service };
Resources read_resources(const Value& value, Claimant claimant);
// `gpus` and `devices` of such a section.
std::vector<DeviceRequest> read_device_requests(const Section& resources);
Network read_network(const Value& value, Network fallback);
std::vector<std::string> read_sandbox(const Value& value);
int read_priority(const Value& value);
Json read_params(const Value& value);
Json read_param(const Value& value);
// `params`: those of the step, with which each task's are to fit into one variable.
std::vector<Swept> read_sweep(const Value& value, const Json& params);
struct ReadCheckpoint {
  Checkpoint checkpoint;
  std::optional<Reference> path;
};
ReadCheckpoint read_checkpoint(const Value& value);
std::vector<RetryOn> read_retry_on(const Value& value);
// "" or why arguments at the end of this text for sh would not be the last command's.
std::string arguments_problem(std::string_view text);

void read_step(Draft& draft, const std::string& name, const Value& value);
// `default_model`: for the short form; "" where `model` must be given.
void read_service(Draft& draft, const std::string& name, const std::string& default_model,
                  const Value& value);

// What holds between parts: names that refer, cycles, clashes. Puts the steps in an order in which
// they can run.
void check_references(Reader& reader, Draft& draft);

}  // namespace loam::spec
