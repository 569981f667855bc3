#include "boxes/address.h"

#include <algorithm>

#include "base/text.h"

namespace loam::boxes {
namespace {

constexpr std::size_t kDestinationBytesMax = 320;
constexpr std::size_t kProgramBytesMax = 1024;

bool consists_of(std::string_view text, std::string_view also) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           also.find(c) != std::string_view::npos;
  });
}

bool is_part(std::string_view text, std::string_view also) {
  return !text.empty() && text.front() != '-' && consists_of(text, also);
}

}  // namespace

std::string destination_problem(std::string_view destination) {
  const auto at = destination.find('@');
  const std::string_view host =
      at == std::string_view::npos ? destination : destination.substr(at + 1);
  const bool user_fits = at == std::string_view::npos || is_part(destination.substr(0, at), "._-");
  if (user_fits && is_part(host, "._-:") && destination.size() <= kDestinationBytesMax) return "";
  return "'" + printable(destination.substr(0, kDestinationBytesMax)) +
         "' is no [USER@]HOST that ssh may be given; expected letters, digits, '.', '_' and '-', "
         "no '-' first (a port, "
         "a key or a longer name: a Host in ~/.ssh/config)";
}

std::string program_problem(std::string_view program) {
  if (is_part(program, "/._-+") && program.size() <= kProgramBytesMax) return "";
  return "'" + printable(program.substr(0, kProgramBytesMax)) +
         "' is no program's name or path; expected letters, digits and '/', '.', '_', '-', '+', no "
         "'-' first";
}

std::vector<std::string> ssh_command(const Address& address, const SshOptions& options) {
  std::vector<std::string> command{
      "ssh",
      "-T",  // no terminal: jobs have their own
      "-a",  // neither the agent nor X is for the box
      "-x", "-oClearAllForwardings=yes", "-oRemoteCommand=none", "-oConnectTimeout=10",
      // A connection that is gone without a word is noticed within 45 s.
      "-oServerAliveInterval=15", "-oServerAliveCountMax=3"};
  if (options.batch) command.push_back("-oBatchMode=yes");
  command.insert(command.end(), {"--", address.destination, address.program + " __bridge"});
  return command;
}

}  // namespace loam::boxes
