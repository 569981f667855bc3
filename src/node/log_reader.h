// An attempt's kept output as one stream of bytes, while its shim goes on writing and rotating it:
//   OUTPUT/previous.log, then OUTPUT/current.log; at the cap current.log is renamed to
//   previous.log.
// OUTPUT/start says how many bytes came before one of the two (shim/output.h).
// No waiting here: at the end read() gives "" and the caller waits for a change of the folder.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace loam::node {

class LogReader {
 public:
  explicit LogReader(std::string folder) : folder_(std::move(folder)) {}

  // Begins at the last `lines` lines of what there is now (a last line without its newline counts).
  Result<void> seek_tail(std::uint64_t lines);
  // Begins behind the first `offset` bytes of all output, or at the oldest byte that is kept.
  Result<void> seek(std::uint64_t offset);
  // How many bytes of output came before the next one to be read.
  std::uint64_t position() const { return file_start_ + static_cast<std::uint64_t>(offset_); }
  // The next bytes, at most size_bytes_max; "" where there are none now. A file that rotated away
  // unread, because the reader was slower than two rotations, is passed over.
  Result<std::string> read(std::size_t size_bytes_max);

 private:
  struct Pair {
    Fd previous;
    Fd current;
    std::uint64_t previous_start = 0;
    std::uint64_t current_start = 0;
  };
  Result<Pair> open_pair() const;
  bool read_starts(Pair& pair) const;
  Result<bool> advance();  // to the file after the one that was read; false: there is none

  std::string folder_;
  Fd file_;
  off_t offset_ = 0;
  std::uint64_t file_start_ = 0;  // of all output
};

}  // namespace loam::node
