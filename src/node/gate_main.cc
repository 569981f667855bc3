#include "node/gate_main.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "base/packet.h"
#include "base/result.h"
#include "node/address.h"

namespace loam::node {
namespace {

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using tcp = asio::ip::tcp;
using Local = asio::local::stream_protocol::socket;
using SystemError = boost::system::error_code;
using std::chrono::seconds;

constexpr std::size_t kSetupBytesMax = 128u << 10;
constexpr std::size_t kPieceBytes = 16u << 10;  // TLS's record (RFC 8446, 5.1)
constexpr int kConnectionsMax = 128;
constexpr int kConnectionsOfAddressMax = 32;
constexpr seconds kHandshakeTimeMax{10};
constexpr seconds kStallTimeMax{60};  // a client that takes nothing of what it is sent
constexpr int kVanishedMs = 60'000;   // a client of which nothing is heard: tcp(7), TCP_USER_TIMEOUT
constexpr int kProbeAfterSeconds = 20;  // of silence, and again each
constexpr int kProbeEachSeconds = 10;
constexpr seconds kEndTimeMax{2};     // for the other side's end, so that our last words arrive
constexpr auto kQuiet = asio::as_tuple(asio::use_awaitable);

struct Gate {
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  std::optional<ssl::context> tls;
  std::map<std::string, int> of_network;  // address.h
  int connections = 0;
  bool draining = false;

  void ended(const std::string& network) {
    --connections;
    if (--of_network[network] == 0) of_network.erase(network);
    if (draining && connections == 0) io.stop();
  }
};

// One client; lives by its coroutines.
template <typename Stream>
struct Client {
  Client(Gate& the_gate, Stream the_stream, std::string the_address)
      : gate(the_gate),
        stream(std::move(the_stream)),
        node(gate.io),
        life(gate.io),
        timer(gate.io),
        address(std::move(the_address)),
        network(network_of(address)) {
    ++gate.connections;
    ++gate.of_network[network];
  }
  ~Client() { gate.ended(network); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Gate& gate;
  Stream stream;
  Local node;
  Local life;
  asio::steady_timer timer;
  const std::string address, network;
  bool answered = false;  // the node has ended it

  void close() {
    SystemError ignored;
    timer.cancel();
    stream.lowest_layer().close(ignored);
    node.close(ignored);
    life.close(ignored);
  }
};
template <typename Stream>
using ClientPtr = std::shared_ptr<Client<Stream>>;

// Ends the connection unless the timer is cancelled before.
template <typename Stream>
void limit(const ClientPtr<Stream>& client, seconds time) {
  client->timer.expires_after(time);
  client->timer.async_wait([weak = std::weak_ptr(client)](const SystemError& stopped) {
    if (const auto late = weak.lock(); late && !stopped) late->close();
  });
}

// The node's end of a new pair whose other end is `ours`; none: too many are open.
Fd pair_with(Local& ours) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return {};
  SystemError error;
  ours.assign(asio::local::stream_protocol(), ends[0], error);
  if (error) ::close(ends[0]);
  return Fd(ends[1]);
}

// False where the node does not take it: it has too much to do.
template <typename Stream>
bool hand_on(Client<Stream>& client) {
  const Fd stream = pair_with(client.node), life = pair_with(client.life);
  const std::array<int, 2> passed{stream.get(), life.get()};
  return client.node.is_open() && client.life.is_open() &&
         send_packet(kGateSocket, client.address, passed, MSG_DONTWAIT) > 0;
}

// Its end says nothing: the node has no more to say of a connection that it has ended itself.
template <typename Stream>
asio::awaitable<void> hear_the_end(ClientPtr<Stream> client) {
  std::array<char, 1> word;
  const auto [failed, count] = co_await client->life.async_read_some(asio::buffer(word), kQuiet);
  if (!failed) client->close();
}

template <typename Stream>
asio::awaitable<void> to_node(ClientPtr<Stream> client) {
  std::array<char, kPieceBytes> piece;
  SystemError end;
  for (bool taken = true;;) {
    const auto [failed, count] = co_await client->stream.async_read_some(asio::buffer(piece), kQuiet);
    end = failed;
    if (failed) break;
    if (!taken) continue;  // read away, so that our answer is not lost by a reset
    const auto [refused, written] =
        co_await asio::async_write(client->node, asio::buffer(piece.data(), count), kQuiet);
    taken = !refused;
  }
  // Both sides are through; or it is gone, not only done with what it says.
  if (client->answered || end != asio::error::eof) co_return client->close();
  SystemError ignored;
  client->node.shutdown(Local::shutdown_send, ignored);
  // It may still read, unless a probe finds that it does not.
  (void)co_await client->stream.lowest_layer().async_wait(tcp::socket::wait_error, kQuiet);
  client->close();
}

template <typename Stream>
asio::awaitable<void> to_client(ClientPtr<Stream> client) {
  std::array<char, kPieceBytes> piece;
  for (;;) {
    const auto [ended, count] = co_await client->node.async_read_some(asio::buffer(piece), kQuiet);
    if (ended) break;
    limit(client, kStallTimeMax);
    const auto [failed, written] =
        co_await asio::async_write(client->stream, asio::buffer(piece.data(), count), kQuiet);
    client->timer.cancel();
    if (failed) break;
  }
  client->answered = true;
  limit(client, kEndTimeMax);
  if constexpr (!std::is_same_v<Stream, tcp::socket>)
    co_await client->stream.async_shutdown(kQuiet);
  SystemError ignored;
  client->stream.lowest_layer().shutdown(tcp::socket::shutdown_send, ignored);
}

template <typename Stream>
asio::awaitable<void> serve(ClientPtr<Stream> client) {
  if constexpr (!std::is_same_v<Stream, tcp::socket>) {
    limit(client, kHandshakeTimeMax);
    const auto [failed] = co_await client->stream.async_handshake(ssl::stream_base::server, kQuiet);
    client->timer.cancel();
    if (failed) co_return client->close();
  }
  if (!hand_on(*client)) co_return client->close();
  asio::co_spawn(client->gate.io, to_client(client), asio::detached);
  asio::co_spawn(client->gate.io, hear_the_end(client), asio::detached);
  co_await to_node(client);
}

std::string address_of(const tcp::socket& socket) {
  SystemError error;
  const auto peer = socket.remote_endpoint(error);
  if (error) return "";
  const auto address = peer.address();
  return address.is_v6() && address.to_v6().is_v4_mapped()
             ? asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string()
             : address.to_string();
}

// Nobody may take a place here who has gone without a word.
void watch_for_vanishing(tcp::socket& socket) {
  SystemError ignored;
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&](int name, int value) {
    (void)::setsockopt(socket.native_handle(), IPPROTO_TCP, name, &value, sizeof value);
  };
  set(TCP_KEEPIDLE, kProbeAfterSeconds);
  set(TCP_KEEPINTVL, kProbeEachSeconds);
  set(TCP_USER_TIMEOUT, kVanishedMs);
}

void take(Gate& gate, tcp::socket socket) {
  const std::string address = address_of(socket);
  const auto same = gate.of_network.find(network_of(address));
  if (address.empty() || gate.connections >= kConnectionsMax ||
      (same != gate.of_network.end() && same->second >= kConnectionsOfAddressMax))
    return;
  SystemError ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  watch_for_vanishing(socket);
  if (!gate.tls) {
    const auto client = std::make_shared<Client<tcp::socket>>(gate, std::move(socket), address);
    asio::co_spawn(gate.io, serve(client), asio::detached);
  } else {
    using Tls = ssl::stream<tcp::socket>;
    const auto client = std::make_shared<Client<Tls>>(gate, Tls(std::move(socket), *gate.tls), address);
    asio::co_spawn(gate.io, serve(client), asio::detached);
  }
}

asio::awaitable<void> accept(Gate& gate) {
  while (gate.acceptor.is_open()) {
    auto [failed, socket] = co_await gate.acceptor.async_accept(kQuiet);
    if (!failed) {
      take(gate, std::move(socket));
    } else if (failed != asio::error::operation_aborted) {
      asio::steady_timer pause(gate.io, seconds(1));  // out of descriptors: until something ends
      co_await pause.async_wait(kQuiet);
    }
  }
}

// The node's word, or its end, which is ours.
asio::awaitable<void> listen_to_node(Gate& gate) {
  asio::posix::stream_descriptor control(gate.io, kGateSocket);
  for (;;) {
    const auto [failed] = co_await control.async_wait(asio::posix::stream_descriptor::wait_read, kQuiet);
    std::array<char, 64> word;
    if (failed || receive_packet(kGateSocket, word, MSG_DONTWAIT).size_bytes == 0) co_return gate.io.stop();
    SystemError ignored;
    gate.draining = true;
    gate.acceptor.close(ignored);
    if (gate.connections == 0) co_return gate.io.stop();
  }
}

std::string openssl_error() {
  std::array<char, 256> text{};
  ::ERR_error_string_n(::ERR_get_error(), text.data(), text.size());
  ::ERR_clear_error();
  return text.data();
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* length,
                    const unsigned char* offered, unsigned offered_bytes, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  auto* out = const_cast<unsigned char**>(chosen);
  return ::SSL_select_next_proto(out, length, kOurs, sizeof kOurs - 1, offered, offered_bytes) ==
                 OPENSSL_NPN_NEGOTIATED
             ? SSL_TLSEXT_ERR_OK
             : SSL_TLSEXT_ERR_NOACK;
}

Result<ssl::context> tls_of(const std::string& certificate, const std::string& key) {
  ssl::context tls(ssl::context::tls_server);
  SSL_CTX* native = tls.native_handle();
  // RFC 8996: nothing before TLS 1.2.
  if (::SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION) != 1)
    return fail(ErrorCode::io, openssl_error());
  ::SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                    SSL_OP_CIPHER_SERVER_PREFERENCE);
  ::SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
  SystemError error;
  tls.use_certificate_chain(asio::buffer(certificate), error);
  if (error) return fail(ErrorCode::invalid, "certificate: no certificate in PEM: " + error.message());
  tls.use_private_key(asio::buffer(key), ssl::context::pem, error);
  if (error) return fail(ErrorCode::invalid, "key: no key in PEM, or not this certificate's: " + error.message());
  if (::SSL_CTX_check_private_key(native) != 1)
    return fail(ErrorCode::invalid, "key: not this certificate's: " + openssl_error());
  return tls;
}

Result<void> give_up_rights(std::uint32_t uid, std::uint32_t gid) {
  rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("RLIMIT_CORE");
  if (::setgroups(0, nullptr) != 0) return fail_errno("setgroups");
  if (::setresgid(gid, gid, gid) != 0) return fail_errno("setresgid");
  if (::setresuid(uid, uid, uid) != 0) return fail_errno("setresuid");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
  // After the change of ids, which clears it.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail_errno("PDEATHSIG");
  return {};
}

Result<void> set_up(Gate& gate) {
  std::string text(kSetupBytesMax, '\0');
  ReceivedPacket packet = receive_packet(kGateSocket, text);
  if (packet.size_bytes <= 0 || packet.truncated || packet.descriptors.size() != 1)
    return fail(ErrorCode::invalid, "the node said nothing");
  text.resize(static_cast<std::size_t>(packet.size_bytes));
  const Json setup = LOAM_TRY(Json::parse(text));
  const auto id = [&](const char* key) { return static_cast<std::uint32_t>(setup[key].as_int()); };
  if (id("uid") == 0 || id("gid") == 0) return fail(ErrorCode::denied, "the gate is nobody's root");
  LOAM_CHECK(give_up_rights(id("uid"), id("gid")));
  if (!setup["certificate"].as_string().empty())
    gate.tls = LOAM_TRY(tls_of(setup["certificate"].as_string(), setup["key"].as_string()));
  const int family = setup["ipv6"].as_bool() ? AF_INET6 : AF_INET;
  SystemError error;
  gate.acceptor.assign(family == AF_INET6 ? tcp::v6() : tcp::v4(), packet.descriptors[0].release(), error);
  if (error) return fail(ErrorCode::io, "the listening socket: " + error.message());
  return {};
}

}  // namespace

int gate_main() {
  ::signal(SIGPIPE, SIG_IGN);
  ::fcntl(kGateSocket, F_SETFD, FD_CLOEXEC);
  Gate gate;
  if (const auto ready = set_up(gate); !ready) {
    (void)send_packet(kGateSocket, ready.error().text);
    return 1;
  }
  if (send_packet(kGateSocket, "ok") < 0) return 1;
  asio::co_spawn(gate.io, listen_to_node(gate), asio::detached);
  asio::co_spawn(gate.io, accept(gate), asio::detached);
  gate.io.run();
  ::_exit(0);  // what still hangs ends with us
}

}  // namespace loam::node
