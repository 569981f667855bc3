// Processes that joined a running attempt (sandbox/join.h), and connections to its ports, each with
// the client that asked for it. None of it is the job's output, and none of it keeps the job alive.
//
//   join packet + stream ─▶ waits for the job to run ─▶ process, or socket ─▶ its end, or the job's
//   ─▶ exit frame
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/json.h"
#include "sandbox/join.h"
#include "shim/clients.h"
#include "shim/job_streams.h"

namespace loam::shim {

class Sessions {
 public:
  Sessions(std::string attempt, sandbox::Ids ids)
      : attempt_(std::move(attempt)), ids_(std::move(ids)) {}

  // {"type":"join", argv, environment, terminal} or {"type":"join", port}, and the client's stream.
  void add(const Json& packet, Fd stream);
  bool any() const { return !sessions_.empty(); }
  // Starts whoever waits. The control socket is to a pid 1 that has started the job.
  void start(int control);
  void take_terminal(std::uint32_t session, Fd master);
  void on_end(std::uint32_t session, int status);  // as waitpid's
  // To a port: a socket that connects, or errno.
  void take_connection(std::uint32_t session, Fd socket, int error);
  // The job has ended, or could not be started: with it all that had joined.
  void finish_all(const std::string& why);
  void drop_all() { sessions_.clear(); }

  void add_polls(std::vector<pollfd>& polls) const;
  std::size_t poll_count() const;
  // Afterwards the number of entries may be another. `control` -1: there is no pid 1 (any more).
  void handle(const pollfd* polls, int control);

 private:
  struct Session {
    std::uint32_t id = 0;
    sandbox::Join join;
    std::uint16_t port = 0;  // instead of a process
    sandbox::Loopback where = sandbox::Loopback::ipv4;
    Fd connecting;
    Clients clients;         // one
    JobStreams streams;
    bool started = false;
    bool finished = false;
  };
  void start_process(Session& session, int control);
  void start_connection(Session& session, int control);
  void connected(Session& session, int control);
  void refuse(Session& session, const std::string& why);
  void finish(Session& session, Json record);
  void signal(const Session& session, int number, int control);
  void on_frame(Session& session, const api::Frame& frame, int control);
  void remove_gone();

  const std::string attempt_;
  const sandbox::Ids ids_;
  std::deque<Session> sessions_;
  std::uint32_t last_ = 0;
};

}  // namespace loam::shim
