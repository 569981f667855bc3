// The node's documents (docs/node-api.md) in a person's words. Pure; foreign text comes out
// printable.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"

namespace loam::cli {

// "exit status 7", "killed by signal 9 (Killed)", "timed out after 1 s", "out of memory (peak … of
// …)".
std::string describe_exit(const Json& exit_record);
// What `loam run` returns for it: the command's own, 128 and the signal, 124, 137, 126 or 127.
int status_of_exit(const Json& exit_record);
// "2.4 s" between start and end of an exit record, "" where one is unknown.
std::string duration_of(const Json& exit_record);

// "new", "runs again: params.lr, snapshot: train.py changed", or the node's own reason.
std::string describe_reason(const Json& step_event);
// One line for an env event's progress: "apt: downloading 12/43 python3-numpy".
std::string describe_progress(const Json& env_event);
// "[#####.....]", `width` characters within the brackets; "" where total is 0.
std::string progress_bar(std::int64_t done, std::int64_t total, int width);

// "just now", "5 min", "3 h", "2 days": how long ago, for tables.
std::string format_age(std::int64_t then_ms, std::int64_t now_ms);
// "1", "0.5", "2.25".
std::string format_cpus(std::int64_t cpu_milli);
// A digest's first 12 digits, without "sha256:".
std::string short_digest(const std::string& digest);
std::string format_bytes(const Json& number);  // "1.5 GiB", "" where it is none

// "anna", with the account of a job where it is not everybody's: "anna/vision".
std::string user_of(const Json& job);

bool is_number(const std::string& text);  // a whole one, of an option

// A string, number or boolean as people write it; objects and lists as JSON. Printable.
std::string plain_text(const Json& value);

}  // namespace loam::cli
