// The job's standard streams as the shim holds them: pipes, or the master of its terminal.
#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "api/attach.h"
#include "base/fd.h"
#include "sandbox/sandbox.h"

namespace loam::shim {

class JobStreams {
 public:
  using Sink = std::function<void(api::AttachFrame type, std::string_view bytes)>;

  void take_pipes(sandbox::Sandbox& sandbox);
  // The job has a terminal, whose master comes later.
  void await_terminal() { terminal_ = true; }
  void take_terminal(Fd master);
  bool awaits_terminal() const { return terminal_ && !terminal_came_; }

  // "" : the end of input. What comes before the pipes or the terminal waits for them.
  void add_input(std::string_view bytes);
  void end_input();
  // The terminal is taken away: its session hears SIGHUP, reading and writing end.
  void hang_up(const Sink& sink);
  bool takes_input() const;  // there is room for more
  bool output_ended() const { return pipes_came_ && !output_; }
  void resize(unsigned columns, unsigned rows);
  // The terminal's foreground process group, 0 where there is none.
  pid_t foreground_group() const;

  void add_polls(std::vector<pollfd>& polls, bool read_output) const;  // always three
  void handle(const pollfd* polls, const Sink& sink);
  // What is left in the pipes once every process of the job is gone.
  void drain(const Sink& sink);

 private:
  bool read_once(Fd& fd, api::AttachFrame type, const Sink& sink);
  void write_input();
  void apply_size();

  std::uint16_t columns_ = 0, rows_ = 0;
  bool terminal_ = false;
  bool terminal_came_ = false;
  bool pipes_came_ = false;
  bool input_ends_ = false;
  bool hung_up_ = false;
  Fd input_, output_, error_;  // a terminal: output_ is the master
  std::string pending_input_;
};

}  // namespace loam::shim
