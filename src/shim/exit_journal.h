// A lane's exits on the disk (api/exit_journal.h): appended, and durable once synced. Lies in the
// attempt's folder, which no process of a job can reach.
#pragma once

#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/fd.h"
#include "base/result.h"

namespace loam::shim {

class ExitJournal {
 public:
  static Result<ExitJournal> open(const std::string& folder);
  // Room for so many more tasks, where the filesystem can set it aside: what jobs write may fill
  // the disk, and the exits are still recorded.
  Result<void> reserve(std::size_t tasks);
  Result<void> add_begun(const std::string& attempt);
  Result<void> add(const api::ExitRecord& record);
  Result<void> sync();

 private:
  explicit ExitJournal(Fd file) : file_(std::move(file)) {}
  Result<void> append(const std::string& line);
  Fd file_;
};

}  // namespace loam::shim
