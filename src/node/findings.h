// What can be read from the things that a job leaves behind. All of it is foreign bytes: limits, no
// symlinks, regular files only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace loam::node {

inline constexpr std::size_t kMetricsBytesMax = 16u << 20;
inline constexpr std::size_t kMetricNamesMax = 1000;
inline constexpr std::size_t kErrorLineBytesMax = 500;

// The line that mattered: the last that names an error ("ValueError: …", "error: …", "Exception
// …"), else the last that is not empty. Printable.
std::string error_line(std::string_view output);

// Of a gang's output the lines of one rank, without its label (shim/rank_streams.h).
std::string lines_of_rank(std::string_view output, int rank);

// metrics.jsonl, an object of numbers a line → {"loss": {"count": 40, "last": 0.01}}. Broken lines
// are left out.
Json summarize_metrics(std::string_view lines);

// A regular file below a folder that another user writes.
Result<Fd> open_foreign(const std::string& folder, const std::string& relative);
Result<std::string> read_foreign(const std::string& folder, const std::string& relative,
                                 std::size_t size_bytes_max);

// Bytes on disk below the folder, following nothing; stops counting over `limit_bytes`. 0 where
// there is none. Only of what was changed since then, which nobody can falsify.
std::uint64_t folder_bytes(const std::string& folder, std::uint64_t limit_bytes,
                           std::int64_t since_ms = 0);
bool folder_empty(const std::string& folder);
std::uint64_t disk_free_bytes(const std::string& folder);  // for an ordinary user

}  // namespace loam::node
