#include "node/port_holder.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "base/files.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "sandbox/user_namespace.h"

namespace loam::node {
namespace {

constexpr std::string_view kListening = "0A", kTimeWait = "06";  // states of /proc/net/tcp
constexpr std::uint32_t kOverflowUid = 65534;                    // user_namespaces(7)

// As the tables write it: each word of the address as a number of the host's, in hex.
struct Address {
  std::string host;
  int port = 0;
};

std::optional<Address> parse(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return {};
  std::string host = text.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::array<std::uint32_t, 4> words{};
  const bool v4 = ::inet_pton(AF_INET, host.c_str(), words.data()) == 1;
  if (!v4 && ::inet_pton(AF_INET6, host.c_str(), words.data()) != 1) return {};
  Address address{.host = {}, .port = std::atoi(text.c_str() + colon + 1)};
  for (std::size_t i = 0; i < (v4 ? 1u : 4u); ++i) {
    char hex[9];
    std::snprintf(hex, sizeof hex, "%08X", words[i]);
    address.host += hex;
  }
  return address;
}

bool is_any(const std::string& host) { return host.find_first_not_of('0') == std::string::npos; }

struct Socket {
  std::string inode;
  std::uint32_t uid = 0;
  bool listens = false;
};

// The one that keeps the address from being bound: a listener before a mere connection.
std::optional<Socket> socket_in(const char* table, const Address& asked) {
  std::istringstream lines(read_file(table).value_or(""));
  std::string line;
  std::getline(lines, line);  // the columns' names
  std::optional<Socket> found;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
    fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >>
        timeout >> inode;
    const auto colon = local.rfind(':');
    if (colon == std::string::npos || state == kTimeWait) continue;
    if (std::strtol(local.c_str() + colon + 1, nullptr, 16) != asked.port) continue;
    const std::string host = local.substr(0, colon);
    if (host != asked.host && !is_any(host) && !is_any(asked.host)) continue;
    if (found && found->listens) continue;
    found = Socket{.inode = inode,
                   .uid = static_cast<std::uint32_t>(std::strtoul(uid.c_str(), nullptr, 10)),
                   .listens = state == kListening};
  }
  return found;
}

bool holds(const std::string& process, const std::string& link) {
  const std::string folder = "/proc/" + process + "/fd";
  const auto names = list_folder(folder);
  if (!names) return false;
  for (const std::string& name : *names) {
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlink((folder + "/" + name).c_str(), target.data(), target.size());
    if (size > 0 && std::string_view(target.data(), static_cast<std::size_t>(size)) == link)
      return true;
  }
  return false;
}

}  // namespace

std::optional<PortHolder> port_holder(const std::string& text) {
  const auto address = parse(text);
  if (!address) return {};
  auto socket = socket_in("/proc/net/tcp", *address);
  if (!socket || !socket->listens)
    if (auto other = socket_in("/proc/net/tcp6", *address)) socket = std::move(other);
  if (!socket) return {};
  PortHolder holder{.uid = socket->uid, .pid = 0, .program = {}, .listens = socket->listens};
  const auto processes = list_folder("/proc");
  if (!processes) return holder;
  for (const std::string& process : *processes) {
    if (process.find_first_not_of("0123456789") != std::string::npos) continue;
    if (!holds(process, "socket:[" + socket->inode + "]")) continue;
    holder.pid = std::strtol(process.c_str(), nullptr, 10);
    holder.program = trim(read_file("/proc/" + process + "/comm").value_or("a process"));
    break;
  }
  return holder;
}

std::string holder_text(const PortHolder& holder, bool may_name) {
  if (may_name && holder.pid != 0)
    return printable(holder.program) + " (pid " + std::to_string(holder.pid) + ")";
  // A user's own node sees all strangers as one id.
  if (holder.uid == kOverflowUid && !sandbox::in_initial_user_namespace())
    return "a process of another user";
  return "a process of user " + user_name(holder.uid) + " (uid " + std::to_string(holder.uid) + ")";
}

}  // namespace loam::node
