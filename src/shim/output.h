// The kept output of an attempt: output/current.log, and output/previous.log once current has
// passed half of the cap. output/start says how many bytes of output came before a file ("INODE BYTES\n": of the
// one that was the current one when it was written), so that a reader can name a place. A LogCursor reads it from the oldest byte on, across rotations.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace loam::shim {

class OutputLog {
 public:
  // Makes the folder where it is missing; goes on at the end of what is there.
  static Result<OutputLog> open(const std::string& folder, std::uint64_t size_bytes_max);

  // A full disk loses output, never the job: the bytes lost are counted and noted in the log when
  // space returns.
  void append(std::string_view bytes);

  const std::string& folder() const { return folder_; }

 private:
  OutputLog(std::string folder, std::uint64_t size_bytes_max)
      : folder_(std::move(folder)), half_bytes_(size_bytes_max / 2) {}
  Result<void> rotate();
  bool write_some(std::string_view& bytes);
  void write_start() const;

  std::string folder_;
  std::uint64_t half_bytes_;
  Fd current_;
  std::uint64_t current_bytes_ = 0;
  std::uint64_t start_bytes_ = 0;  // output before the current file
  std::uint64_t lost_bytes_ = 0;
};

class LogCursor {
 public:
  explicit LogCursor(std::string folder) : folder_(std::move(folder)) {}
  // The next bytes, "" where there are none yet.
  std::string read_more(std::size_t size_bytes_max);

 private:
  bool advance();

  std::string folder_;
  Fd file_;
  std::uint64_t inode_ = 0;
};

}  // namespace loam::shim
