// Lines of a text file that may be compressed with gzip, a large one too: one buffer, one line at a
// time.
//
// Trust: foreign bytes. A line is limited, so that a file without line feeds, or a small gzip file
// of a huge one, takes no more memory than that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"

namespace loam::sim {

inline constexpr std::size_t kLineBytesMax = 64u << 10;

class Lines {
 public:
  // "-": standard input. not_found, denied, io.
  static Result<Lines> open(const std::string& path);

  // The next line without its end ("\n" or "\r\n"), and without a byte order mark on the first;
  // false: there are no more. too_large: a line over kLineBytesMax. corrupt: damaged or cut gzip.
  Result<bool> next(std::string& line);
  std::uint64_t number() const { return number_; }  // of the last line, from 1
  const std::string& name() const { return name_; }

 private:
  struct Close {
    void operator()(void* file) const;
  };
  Result<bool> fill();

  std::string name_;
  std::unique_ptr<void, Close> file_;  // zlib's gzFile
  std::string buffer_;
  std::size_t at_ = 0;
  bool ended_ = false;
  std::uint64_t number_ = 0;
};

}  // namespace loam::sim
