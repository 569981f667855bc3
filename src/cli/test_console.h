// For tests of what talks to a node: a console that can be read, and a node's events.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/files.h"
#include "cli/console.h"
#include "engines/test_server.h"

namespace loam::cli {

// A console that writes into unnamed files.
struct Written {
  Fd out{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  Fd error{::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  Console console{out.get(), error.get(), false};

  static std::string text(const Fd& fd) {
    ::lseek(fd.get(), 0, SEEK_SET);
    return *read_fd(fd.get());
  }
  std::string stdout_text() const { return text(out); }
  std::string stderr_text() const { return text(error); }
};

inline std::string event(const std::string& kind, std::string data) {
  std::replace(data.begin(), data.end(), '\n',
               ' ');  // for people's sake they stand on several lines here
  return engines::chunk("event: " + kind + "\ndata: " + data + "\n\n");
}

inline const std::string kEnd = "0\r\n\r\n";

}  // namespace loam::cli
