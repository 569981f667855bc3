#include "engines/http_exchange.h"

#include <sys/socket.h>

#include <array>
#include <boost/beast/http/basic_parser.hpp>
#include <cctype>
#include <cerrno>
#include <utility>

namespace loam::engines {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using boost::beast::string_view;

// A chunk's head line has no limit of its own in the parser: what waits unparsed is bounded here.
constexpr std::size_t kUnparsedBytesMax = 256u << 10;
constexpr std::size_t kReadBytes = 64u << 10;

class Parser : public http::basic_parser<false> {
 public:
  HttpHead head;
  std::string* body = nullptr;  // of the read() at hand

 private:
  void on_request_impl(http::verb, string_view, string_view, int, error_code&) override {}
  void on_response_impl(int code, string_view, int, error_code&) override { head.status = code; }
  void on_field_impl(http::field name, string_view text, string_view value, error_code&) override {
    if (name == http::field::content_type) head.content_type = std::string(value);
    std::string lower(text);
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (lower.starts_with("loam-")) head.own[lower] = std::string(value);
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  std::size_t on_body_impl(string_view bytes, error_code&) override { return take(bytes); }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view bytes, error_code&) override {
    return take(bytes);
  }
  void on_finish_impl(error_code&) override {}

  std::size_t take(string_view bytes) {
    if (body != nullptr) body->append(bytes.data(), bytes.size());
    return bytes.size();
  }
};

std::string text_of(const HttpRequest& request) {
  std::string text = request.method + " " + request.target + " HTTP/1.1\r\nHost: loam\r\n";
  if (!request.upgrade.empty())
    text += "Connection: Upgrade\r\nUpgrade: " + request.upgrade + "\r\n";
  else
    text += "Connection: close\r\n";
  if (!request.body.empty()) text += "Content-Type: application/json\r\n";
  if (!request.body.empty() || request.method != "GET")
    text += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  return text + "\r\n" + request.body;
}

Result<void> send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    // The node may answer and close before it has read all (a body that it refuses): its answer
    // counts.
    if (count < 0 && (errno == EPIPE || errno == ECONNRESET)) return {};
    if (count < 0) return fail_errno("sending a request to the node");
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

tl::unexpected<Error> broken_off() {
  return fail(ErrorCode::corrupt, "the node closed the connection before its answer was complete");
}

}  // namespace

struct Exchange::Impl {
  Fd socket;
  Parser parser;
  std::string unparsed;

  Result<void> parse(std::string& body) {
    parser.body = &body;
    while (!unparsed.empty() && !parser.is_done()) {
      error_code error;
      const auto used =
          parser.put(boost::asio::const_buffer(unparsed.data(), unparsed.size()), error);
      unparsed.erase(0, used);
      if (error == http::error::need_more) break;
      if (error)
        return fail(ErrorCode::corrupt, "the node's answer is no HTTP: " + error.message());
      if (used == 0) break;
    }
    if (!parser.is_done() && unparsed.size() > kUnparsedBytesMax)
      return fail(ErrorCode::corrupt, "the node's answer is no HTTP: a line without an end");
    return {};
  }
};

Exchange::Exchange(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Exchange::Exchange(Exchange&&) noexcept = default;
Exchange& Exchange::operator=(Exchange&&) noexcept = default;
Exchange::~Exchange() = default;

Result<Exchange> Exchange::start(Fd socket, const HttpRequest& request) {
  if (request.body.size() > kRequestBodyBytesMax)
    return fail(ErrorCode::too_large, "a request of " + std::to_string(request.body.size()) +
                                          " bytes; the node takes at most " +
                                          std::to_string(kRequestBodyBytesMax));
  auto impl = std::make_unique<Impl>();
  impl->parser.eager(true);
  impl->parser.header_limit(kHeadBytesMax);
  impl->parser.body_limit(boost::none);  // the caller bounds what it keeps
  LOAM_CHECK(send_all(socket.get(), text_of(request)));
  impl->socket = std::move(socket);
  return Exchange(std::move(impl));
}

int Exchange::fd() const { return impl_->socket.get(); }
bool Exchange::has_head() const { return impl_->parser.is_header_done(); }
const HttpHead& Exchange::head() const { return impl_->parser.head; }

Result<bool> Exchange::read(std::string& body) {
  if (impl_->parser.is_done()) return true;
  std::array<char, kReadBytes> buffer;
  const ssize_t count = ::recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (count < 0 && errno == ECONNRESET) return broken_off();
  if (count < 0) return fail_errno("reading the node's answer");
  if (count == 0) {
    if (!impl_->parser.got_some()) return broken_off();  // put_eof requires it
    error_code error;
    impl_->parser.put_eof(error);
    if (error || !impl_->parser.is_done()) return broken_off();
    return true;
  }
  impl_->unparsed.append(buffer.data(), static_cast<std::size_t>(count));
  LOAM_CHECK(impl_->parse(body));
  return impl_->parser.is_done();
}

Exchange::Upgraded Exchange::take_upgraded() {
  return {std::move(impl_->socket), std::move(impl_->unparsed)};
}

static std::string encode(std::string_view text, std::string_view also_plain) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("-._~").find(c) != std::string_view::npos ||
        also_plain.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      encoded += '%';
      encoded += kDigits[byte >> 4];
      encoded += kDigits[byte & 15];
    }
  }
  return encoded;
}

std::string percent_encoded(std::string_view text) { return encode(text, ""); }
std::string percent_encoded_path(std::string_view path) { return encode(path, "/@"); }

}  // namespace loam::engines
