// What the ranks of a gang print, in one log: whole lines, each with its rank before it.
//
//   [0] epoch 1 loss 0.42
//   [1] epoch 1 loss 0.41
//
// A line is told when it has ended, by LF or by the CR of a progress bar; one of over 8 KiB in
// pieces, each a line.
#pragma once

#include <poll.h>

#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace loam::shim {

class RankStreams {
 public:
  using Sink = std::function<void(std::string_view bytes)>;

  void take_pipes(std::vector<Fd> outputs);  // by rank
  std::size_t poll_count() const { return streams_.size(); }
  void add_polls(std::vector<pollfd>& polls) const;
  void handle(const pollfd* polls, const Sink& sink);
  // What is left once every process of the job is gone, the last line of each with it.
  void drain(const Sink& sink);

 private:
  struct Stream {
    Fd fd;
    std::string label;
    std::string line;  // not ended yet
  };
  static bool read_once(Stream& stream, const Sink& sink);

  std::vector<Stream> streams_;
};

}  // namespace loam::shim
