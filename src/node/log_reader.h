// An attempt's kept output as one stream of bytes, while its shim goes on writing and rotating it:
//   OUTPUT/previous.log, then OUTPUT/current.log; at the cap current.log is renamed to
//   previous.log.
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
  // The next bytes, at most size_bytes_max; "" where there are none now. A file that rotated away
  // unread, because the reader was slower than two rotations, is passed over.
  Result<std::string> read(std::size_t size_bytes_max);

 private:
  struct Pair {
    Fd previous;
    Fd current;
  };
  Result<Pair> open_pair() const;
  Result<bool> advance();  // to the file after the one that was read; false: there is none

  std::string folder_;
  Fd file_;
  off_t offset_ = 0;
};

}  // namespace loam::node
