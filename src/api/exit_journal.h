// The exits of a lane's tasks: `exits` in the attempt's folder (docs/formats/shim.md). Lines that
// are only ever appended, each with its CRC-32C before it; one that was cut short ends what counts.
//
//   shim ── begun, exit record, … ──▶ attempts/ID/exits ──▶ node that was not there to be told
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "api/attempt.h"

namespace loam::api {

// What is set aside for a task: a mark that it has begun, and its record.
inline constexpr std::size_t kJournalTaskBytes = 2048;

std::string journal_line(const Json& entry);
Json begun_entry(const std::string& attempt);

struct ExitJournal {
  std::vector<std::string> begun;  // attempts, in the order of their starts
  std::vector<ExitRecord> exits;
};
ExitJournal read_exit_journal(std::string_view bytes);

}  // namespace loam::api
