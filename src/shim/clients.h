// Attached clients: streams in attach frames (api/attach.h). Two kinds:
//   live    (a terminal, or standard input given): gets the job's bytes as they come; a slow one
//   holds the job back,
//           as a terminal would
//   viewer  (neither): reads the kept output from its beginning on, at its own pace
#pragma once

#include <poll.h>

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "api/attach.h"
#include "base/fd.h"
#include "shim/output.h"

namespace loam::shim {

class Clients {
 public:
  using Handler = std::function<void(const api::Frame& frame)>;

  // log_folder: for viewers; nullopt: live.
  void add(Fd stream, std::optional<std::string> log_folder);
  bool any() const { return !clients_.empty(); }

  void send_live(api::AttachFrame type, std::string_view bytes);
  bool holds_back() const;  // a live client has too much unsent
  // The last frame; every client is closed once it has got all. Viewers first get the rest of the
  // log.
  void finish(std::string exit_record);

  // Input is not read while `accept_input` is false (the job does not take it).
  void add_polls(std::vector<pollfd>& polls, bool accept_input) const;
  std::size_t poll_count() const { return clients_.size(); }
  void handle(const pollfd* polls, const Handler& handler);
  void feed_viewers();  // after output, or when there is room
  bool take_hang_up();  // whether the last live client has gone since the last call

 private:
  struct Client {
    Fd fd;
    api::FrameReader reader;
    std::string outgoing;
    std::optional<LogCursor> cursor;
    bool finishing = false;
    bool gone = false;
  };
  void flush(Client& client);
  void receive(Client& client, const Handler& handler);
  void feed(Client& client);
  void remove_gone();

  std::deque<Client> clients_;
  std::optional<std::string> exit_record_;
  bool hung_up_ = false;
};

}  // namespace loam::shim
