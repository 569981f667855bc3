#include "channel/handshake.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/files.h"
#include "base/json.h"
#include "base/packet.h"
#include "base/text.h"

namespace loam::channel {
namespace {

constexpr int kBacklog = 8;

struct Address {
  Fd folder;  // keeps /proc/self/fd/N meaningful while the address is used
  sockaddr_un name{};
};

// By way of /proc/self/fd, because sun_path holds 108 bytes and a state folder may be deeper.
Result<Address> address_in(const std::string& folder, std::string_view name) {
  Address address;
  address.folder = LOAM_TRY(open_file(folder, O_PATH | O_DIRECTORY));
  address.name.sun_family = AF_UNIX;
  const std::string path =
      "/proc/self/fd/" + std::to_string(address.folder.get()) + "/" + std::string(name);
  std::memcpy(address.name.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<Fd> packet_socket(int flags) {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!socket) return fail_errno("socket");
  return socket;
}

// A packet with the descriptors that came with it.
struct Packet {
  std::string text;
  std::vector<Fd> descriptors;
};

Result<std::optional<Packet>> receive(int socket) {
  Packet packet;
  packet.text.resize(kPacketBytesMax);
  ReceivedPacket received = loam::receive_packet(socket, packet.text);
  ssize_t count = received.size_bytes;
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::optional<Packet>{};
  if (count < 0 && errno == ECONNRESET) count = 0;
  if (count < 0) return fail_errno("recvmsg");
  packet.descriptors = std::move(received.descriptors);
  if (received.truncated) return fail(ErrorCode::too_large, "packet over 64 KiB");
  packet.text.resize(static_cast<std::size_t>(count));
  return std::optional(std::move(packet));
}

Result<void> send_with(int socket, std::string_view text, const std::vector<int>& descriptors) {
  if (loam::send_packet(socket, text, descriptors) < 0) return fail_errno("sendmsg");
  return {};
}

}  // namespace

std::string encode_hello(const Hello& hello) {
  return Json::object({{"format", kFormatVersion},
                       {"position", hello.position},
                       {"signature", to_json(hello.signature)}})
      .dump();
}

Result<Hello> parse_hello(std::string_view packet) {
  auto document = Json::parse(packet);
  if (!document) return in_context("hello", document.error());
  const std::int64_t format = (*document)["format"].as_int(-1);
  if (format != kFormatVersion)
    return fail(ErrorCode::invalid, "hello: channel format " + std::to_string(format) +
                                        ", expected " + std::to_string(kFormatVersion) +
                                        " (another version of loam?)");
  Hello hello;
  hello.position = LOAM_TRY(document->int_at("position"));
  auto signature = signature_from((*document)["signature"]);
  if (!signature) return in_context("hello", signature.error());
  hello.signature = std::move(*signature);
  return hello;
}

WorkerWord parse_word(std::string_view packet) {
  const auto document = Json::parse(packet);
  if (document && (*document)["ready"].as_bool()) return WorkerWord::ready;
  if (document && (*document)["leaving"].as_bool()) return WorkerWord::leaving;
  return WorkerWord::unknown;
}

// Bound under another name and renamed once it listens: who sees channel.sock can connect to it.
Result<Fd> listen_in(const std::string& folder) {
  const std::string name(kSocketName);
  const std::string hidden = name + ".new";
  const Address address = LOAM_TRY(address_in(folder, hidden));
  const int parent = address.folder.get();
  Fd listener = LOAM_TRY(packet_socket(SOCK_NONBLOCK));
  ::unlinkat(parent, hidden.c_str(), 0);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address.name),
             sizeof address.name) != 0)
    return fail_errno("bind " + folder + "/" + hidden);
  if (::listen(listener.get(), kBacklog) != 0) return fail_errno("listen");
  if (::renameat(parent, hidden.c_str(), parent, name.c_str()) != 0)
    return fail_errno("rename " + folder + "/" + hidden);
  return listener;
}

Result<Fd> accept_from(int listener) {
  Fd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
    return fail_errno("accept");
  return socket;
}

Result<void> send_packet(int socket, std::string_view packet) {
  return send_with(socket, packet, {});
}

Result<void> send_welcome(int socket, std::uint32_t queue, int memfd, int eventfd) {
  const std::string text = Json::object({{"format", kFormatVersion}, {"queue", queue}}).dump();
  return send_with(socket, text, {memfd, eventfd});
}

void send_refusal(int socket, std::string_view error) {
  (void)send_packet(socket, Json::object({{"error", error}}).dump());
}

Result<std::optional<std::string>> receive_packet(int socket) {
  auto packet = LOAM_TRY(receive(socket));
  if (!packet) return std::optional<std::string>{};
  return std::optional(std::move(packet->text));
}

Result<Connected> connect_to(const std::string& folder, std::string_view hello) {
  Connected connected;
  connected.socket = LOAM_TRY(packet_socket(0));
  const Address address = LOAM_TRY(address_in(folder, kSocketName));
  const int fd = connected.socket.get();
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address.name), sizeof address.name) != 0)
    return fail_errno("connect " + folder);
  LOAM_CHECK(send_packet(fd, hello));
  auto packet = LOAM_TRY(receive(fd));
  if (!packet || packet->text.empty()) return fail(ErrorCode::unavailable, "the gateway hung up");
  const Json document = LOAM_TRY(Json::parse(packet->text));
  if (document.has("error")) return fail(ErrorCode::invalid, document["error"].as_string());
  if (packet->descriptors.size() != 2)
    return fail(ErrorCode::corrupt, "welcome without memfd and eventfd");
  connected.welcome.queue = static_cast<std::uint32_t>(document["queue"].as_int());
  connected.welcome.memfd = std::move(packet->descriptors[0]);
  connected.welcome.eventfd = std::move(packet->descriptors[1]);
  return connected;
}

}  // namespace loam::channel
